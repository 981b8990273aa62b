"""The feature store: training from it gives what training online gives; nothing broken is read; a capture can be killed."""

import copy
import json
import pickle
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from runs import configure, trainer_for, weights

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import load_embeddings, load_target
from vlm_eagle.training.feature_format import from_float8, join, split, to_float8
from vlm_eagle.training.feature_store import FeatureStore
from vlm_eagle.training.setup import OnlineData


def capture(data, folder, rows=None, shard_bytes=200_000, **options):
    config = configure(data, folder)
    for name, value in options.items():
        setattr(config.data, name, value)
    accelerator = Accelerator(cpu=True)
    config.data.features, config.draft.image_inputs = str(folder), "mixed"
    online = OnlineData(config, accelerator)
    for name in ("train", "eval"):
        source = online.capturing_source(name)
        source.writer.shard_bytes = shard_bytes
        source.capture(range(len(source.dataset)) if rows is None else rows, 3)
    return online


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    capture(data, folder)
    return folder


def losses(folder):
    return [row["loss"] for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if "loss" in row]


def offline(data, out, store, **options):
    config = configure(data, out, **options)
    config.data.features = str(store)
    return trainer_for(config)


@pytest.mark.slow
@pytest.mark.parametrize("image_inputs", ["token", "mixed"])
def test_offline_equals_online(data, store, tmp_path, image_inputs):
    ends = []
    for name in ("online", "offline"):
        config = configure(data, tmp_path / name, max_steps=6, lr=1e-4)
        config.draft.image_inputs = image_inputs
        config.data.features = str(store) if name == "offline" else None
        trainer = trainer_for(config)
        assert trainer.train()
        ends.append((losses(tmp_path / name), weights(trainer), trainer.best))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=2e-4)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-3, atol=2e-5)
    assert ends[0][2] == pytest.approx(ends[1][2], abs=0.02)


def test_offline_never_loads_layers(data, store, tmp_path, monkeypatch):
    monkeypatch.setattr("vlm_eagle.training.setup.load_target", None)
    assert offline(data, tmp_path, store).train()


@pytest.mark.slow
def test_capturing_during_training_equals_online_and_leaves_a_whole_store(data, tmp_path):
    """12 rows, steps of 5: an epoch leaves two rows out, which are captured before the second."""
    ends = []
    for capture in (False, True):
        config = configure(data, tmp_path / str(capture), max_steps=6, lr=1e-4, batch_size=5)
        config.data.features, config.data.capture_during_training = (
            (str(tmp_path / "store"), True) if capture else (None, False)
        )
        trainer = trainer_for(config)
        assert trainer.train()
        ends.append((losses(tmp_path / str(capture)), weights(trainer)))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=2e-4)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-3, atol=2e-5)
    assert FeatureStore(tmp_path / "store" / "train").missing == []


def test_samples_come_back_as_they_were(data, store):
    online = OnlineData(configure(data, store), Accelerator(cpu=True))
    stored = FeatureStore(store / "train")
    for row in range(len(stored)):
        features = online.target.features(online.collator([online.train[row]]), visual=True)
        (plain,), found = split(features), stored[row]
        assert found.id == plain.id
        assert torch.equal(found.input_ids, plain.input_ids)
        assert torch.equal(found.loss_mask, plain.loss_mask)
        torch.testing.assert_close(found.aux_hidden, plain.aux_hidden, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.last_hidden, plain.last_hidden, rtol=1e-4, atol=1e-4)
        assert len(found.input_ids) == int(features.loss_mask[0].nonzero().max()) + 1
        assert len(found.visual) == int(found.visual_mask.sum()) == (0 if plain.visual is None else len(plain.visual))


def test_split_and_join_are_inverse(target, mixed_batch):
    features = target.features(mixed_batch, visual=True)
    again = join(split(features), {})
    longest = again.input_ids.shape[1]
    assert torch.equal(again.loss_mask, features.loss_mask[:, :longest])
    assert torch.equal(again.last_hidden, features.last_hidden)
    assert torch.equal(again.visual, features.visual)
    for row, mask in enumerate(again.loss_mask):
        read = int(mask.nonzero().max())
        assert torch.equal(again.aux_hidden[row, :read], features.aux_hidden[row, :read])
        assert torch.equal(again.input_ids[row, : read + 1], features.input_ids[row, : read + 1])


def test_an_interrupted_capture_continues(data, store, tmp_path):
    capture(data, tmp_path, rows=range(0, 3))
    partial = FeatureStore(tmp_path / "train")
    assert partial.missing == list(range(3, 12))
    with pytest.raises(UserError, match="lacks 9 of 12"):
        offline(data, tmp_path / "run", tmp_path)
    (tmp_path / "train" / "shards" / "0-00099.safetensors").write_bytes(b"killed while writing")
    capture(data, tmp_path)
    whole, reference = FeatureStore(tmp_path / "train"), FeatureStore(store / "train")
    assert whole.missing == []
    for row in range(len(whole)):
        torch.testing.assert_close(whole[row].aux_hidden, reference[row].aux_hidden, rtol=1e-4, atol=1e-4)


def test_a_capture_is_written_in_shards_and_can_be_stopped(data, tmp_path):
    config, told = configure(data, tmp_path), []
    config.data.features = str(tmp_path)
    source = OnlineData(config, Accelerator(cpu=True)).capturing_source("train")
    source.writer.shard_bytes = 1
    done = lambda samples, tokens: told.append(samples)
    assert not source.capture(range(12), 3, done=done, stop=lambda: len(told) == 2)
    assert told == [3, 3]
    store = FeatureStore(tmp_path / "train")
    assert store.missing == list(range(6, 12))
    assert source.capture(range(12), 4, done=done)
    assert told == [3, 3, 4, 2], "what is there is not captured again"
    source.writer.add(0, store[0])
    source.writer.flush()
    store = FeatureStore(tmp_path / "train")
    assert len({file for file, _ in store.index.values()}) == len(list((tmp_path / "train/shards").glob("*.parquet"))) == 12
    assert not store[5].aux_hidden[-1].any(), "the row that nothing reads"
    travelled = pickle.loads(pickle.dumps(store))
    assert torch.equal(travelled[5].aux_hidden, store[5].aux_hidden)


def test_another_chat_template_is_another_store(data, tmp_path):
    capture(data, tmp_path, rows=[0])
    template = data / "target" / "chat_template.jinja"
    before = template.read_text()
    try:
        template.write_text(before + "{# changed #}")
        with pytest.raises(UserError, match=r"holds other features \(template_hash"):
            capture(data, tmp_path)
    finally:
        template.write_text(before)


def test_a_flipped_bit_is_noticed(data, tmp_path):
    capture(data, tmp_path)
    shard = next((tmp_path / "train" / "shards").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    stored = FeatureStore(tmp_path / "train")
    with pytest.raises(UserError, match="checksum"):
        [stored[row] for row in range(len(stored))]
    shard.write_bytes(content[:200])
    stored = FeatureStore(tmp_path / "train")
    with pytest.raises(UserError, match=r"Delete its \.parquet"):
        [stored[row] for row in range(len(stored))]


def test_bad_rows_are_remembered(data, tmp_path):
    file = data / "bad_rows.jsonl"
    file.write_text("{\n" + (data / "train.jsonl").read_text() + '{"messages": []}\n')
    capture(data, tmp_path / "store", train=[str(file)])
    stored = FeatureStore(tmp_path / "store" / "train")
    assert stored.missing == []
    assert isinstance(stored[0], BadRow)
    trainer = offline(data, tmp_path / "run", tmp_path / "store", max_steps=2, batch_size=7)
    assert trainer.train()
    assert trainer.skipped == Counter({"bad JSON": 1, "no messages": 1})


def test_another_target_or_setting_is_refused(data, store, tmp_path, target, processor):
    other = tmp_path / "other"
    target.model.save_pretrained(other)
    processor.save_pretrained(other)
    changed = load_target(str(other), dtype="float32")
    with torch.no_grad():
        changed.embed_tokens.weight.add_(0.1)
    changed.model.save_pretrained(other)
    config = configure(data, tmp_path / "run")
    config.data.features, config.target = str(store), str(other)
    with pytest.raises(UserError, match="captured from"):
        trainer_for(config)
    config = configure(data, tmp_path / "run")
    config.data.features, config.draft.layer_ids = str(store), [1, 2, 3]
    with pytest.raises(UserError, match="holds layers"):
        trainer_for(config)
    with pytest.raises(UserError, match="holds other features"):
        capture(data, store, max_length=99)
    with pytest.raises(UserError, match="no feature store"):
        FeatureStore(tmp_path)


def test_heads_are_the_targets(data):
    target = load_target(str(data / "target"), dtype="float32")
    heads = load_embeddings(str(data / "target"), dtype="float32", device=torch.device("cpu"), layer_ids=target.layer_ids)
    hidden = torch.randn(5, target.config.hidden_size)
    torch.testing.assert_close(heads.logits(hidden), target.logits(hidden))
    assert torch.equal(heads.embed_tokens.weight, target.embed_tokens.weight)
    assert heads.fingerprint == target.fingerprint


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_table_is_there_once(text_target, tmp_path, tied):
    model = copy.deepcopy(text_target.model)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(tmp_path)
    text_target.processor.save_pretrained(tmp_path)
    heads = load_embeddings(str(tmp_path), dtype="bfloat16", device=torch.device("cpu"), layer_ids=text_target.layer_ids)
    assert torch.equal(heads.lm_head_weight, model.lm_head.weight.bfloat16())
    assert (heads.lm_head_weight.data_ptr() == heads.embed_tokens.weight.data_ptr()) == tied


def test_float8_keeps_every_part_in_range(data, tmp_path):
    values = torch.randn(50, 48) * torch.tensor([1.0, 1e3, 1e-3]).repeat_interleave(16)
    small, scales = to_float8(values, parts=3)
    assert scales.shape == (50, 3)
    again = from_float8(small, scales).float()
    for part in range(3):
        error = (again - values)[:, 16 * part : 16 * part + 16].norm() / values[:, 16 * part : 16 * part + 16].norm()
        assert float(error) < 0.04
    capture(data, tmp_path, features_dtype="float8")
    stored = FeatureStore(tmp_path / "train")
    assert stored.manifest["dtype"] == "float8_e4m3fn"
    assert offline(data, tmp_path / "run", tmp_path, max_steps=2).train()
