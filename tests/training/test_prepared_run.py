"""A run on prepared data: pixel budgets, a vocabulary from a file, and what is written down about them."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from runs import configure, trainer_for

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab, write_vocabulary
from vlm_eagle.errors import UserError
from vlm_eagle.training.feature_store import FeatureStore
from vlm_eagle.training.setup import OnlineData


def budgeted(data, out, **budget):
    config = configure(data, out, max_steps=1)
    return replace(config, data=replace(config.data, **budget))


def test_a_smaller_budget_makes_shorter_samples_everywhere(data, tmp_path):
    usual = trainer_for(configure(data, tmp_path / "usual", max_steps=1))
    small = trainer_for(budgeted(data, tmp_path / "small", max_pixels=4096))
    assert usual.setup.pixel_budget == (4096, 262_144)
    assert small.setup.pixel_budget == (4096, 4096)
    assert sum(small.setup.lengths) < sum(usual.setup.lengths)
    for trainer in (usual, small):
        source = trainer.setup.train
        made = [int(source.collate([source.dataset[i]]).attention_mask.sum()) for i in range(len(source.dataset))]
        assert made == trainer.setup.lengths
    assert small.train()
    run = json.loads((tmp_path / "small" / "run.json").read_text())
    assert run["pixel_budget"] == [4096, 4096]
    assert run["config"]["data"]["max_pixels"] == 4096


def test_a_store_knows_its_budget(data, tmp_path):
    def capture(**budget):
        config = budgeted(data, tmp_path, features=str(tmp_path / "store"), **budget)
        source = OnlineData(config, Accelerator(cpu=True)).capturing_source("train")
        source.capture(range(len(source.dataset)), 4)

    capture(max_pixels=8192)
    assert FeatureStore(tmp_path / "store" / "train").manifest["pixel_budget"] == [4096, 8192]
    with pytest.raises(UserError, match=r"holds other features \(pixel_budget"):
        capture(max_pixels=9000)
    store = str(tmp_path / "store")
    assert trainer_for(budgeted(data, tmp_path / "a", features=store)).setup.pixel_budget == (4096, 8192)
    assert trainer_for(budgeted(data, tmp_path / "b", features=store, max_pixels=8192)).setup.pixel_budget == (4096, 8192)
    with pytest.raises(UserError, match="4096 to 8192 pixels, asked for None to 9000"):
        trainer_for(budgeted(data, tmp_path / "c", features=store, max_pixels=9000))


def test_a_vocabulary_from_a_file(data, target, tmp_path):
    vocab = DraftVocab.from_ids(range(5, 600, 3), target.config.vocab_size)
    write_vocabulary(tmp_path / "v.json", vocab)
    config = configure(data, tmp_path / "out", max_steps=2)
    config.draft.vocab_file = str(tmp_path / "v.json")
    trainer = trainer_for(config)
    assert trainer.train()
    assert 0 < trainer.setup.coverage < 1
    draft = Eagle3Draft.from_pretrained(tmp_path / "out" / "draft")
    assert torch.equal(draft.target_ids, vocab.target_ids)
    assert draft.config.draft_vocab_size == len(vocab.d2t) == 199
    write_vocabulary(tmp_path / "v.json", DraftVocab.from_ids(range(6, 600, 3), target.config.vocab_size))
    with pytest.raises(UserError, match=r"other data, target or settings \(draft\.vocab_file \w+, now \w+\)"):
        trainer_for(config).train()
    config.draft.vocab_file = str(tmp_path / "none.json")
    with pytest.raises(UserError, match="not a draft vocabulary"):
        trainer_for(config)


def test_strict_stops_before_training(data, tmp_path):
    (data / "with_bad.jsonl").write_text((data / "train.jsonl").read_text() + "{\n")
    config = budgeted(data, tmp_path, strict=True, train=[str(data / "with_bad.jsonl")])
    with pytest.raises(BadRow, match=r"with_bad\.jsonl:13: bad JSON"):
        trainer_for(config)


def test_data_without_an_answer_is_refused_with_the_reasons(data, tmp_path):
    (data / "bad.jsonl").write_text('{\n[1]\n{"messages": [{"role": "user", "content": "Hi"}]}\n{\n')
    with pytest.raises(UserError, match="bad JSON 2, not an object 1, nothing to learn 1"):
        trainer_for(budgeted(data, tmp_path, train=[str(data / "bad.jsonl")]))


def test_cut_answers_do_not_count(data, tmp_path):
    """Tokens behind the longest length are never learned, so the draft vocabulary must not be chosen by them."""
    long, short = (OnlineData(budgeted(data, tmp_path, max_length=most), Accelerator(cpu=True)) for most in (400, 50))
    kept = [i for i, length in enumerate(short.lengths) if length]
    learned = sum(int(short.collator.token_layout(short.train[i])["loss_mask"].sum()) for i in kept)
    assert int(short.counts.sum()) == learned < int(long.counts.sum())
