"""The decoding loop is lossless, counts what the plain reference counts, and stops exactly."""

from dataclasses import replace

import pytest
import torch
from conftest import make_draft, make_imitating_draft
from plain_reference import PlainReference

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, generate, stream_with
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError

SHAPES = [TreeShape(2), TreeShape(5), TreeShape(8, topk=3, num_steps=3), TreeShape(12, topk=4, num_steps=2)]


def prompt_of(target, task, seed=1):
    return VisionCollator(target.processor, for_generation=True)([mix.sample(task, seed)])


def hf_greedy(target, batch, max_new_tokens):
    output = target.model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.vision_inputs,
        max_new_tokens=max_new_tokens, do_sample=False,
    )  # fmt: skip
    return output[0, batch.input_ids.shape[1] :].tolist()


def self_draft(target, good=True):
    """A draft for a random target. Good ones are taught nothing, but their vocabulary is small, so some guesses hit."""
    return make_draft(target, draft_vocab_size=400 if good else 8)


@pytest.mark.parametrize("task", ["describe", "multi-image", "arithmetic"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_greedy_is_token_identical_to_the_target_alone(target, draft, task, shape):
    batch = prompt_of(target, task)
    expected = hf_greedy(target, batch, 20)
    assert generate(target, batch, settings=Settings(max_new_tokens=20))[0].tokens == expected
    assert generate(target, batch, draft, Settings(shape=shape, max_new_tokens=20))[0].tokens == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_text_only_target(text_target, shape):
    batch = prompt_of(text_target, "arithmetic")
    (answer,) = generate(text_target, batch, make_draft(text_target), Settings(shape=shape, max_new_tokens=20))
    assert answer.tokens == hf_greedy(text_target, batch, 20)


def test_stops_exactly(target, draft):
    """Nothing after the end token, never one token too many, whatever the tree would have committed at once."""
    batch = prompt_of(target, "describe")
    plain = generate(target, batch, settings=Settings(max_new_tokens=30))[0].tokens
    for limit in (1, 2, 3, 7):
        assert (
            generate(target, batch, draft, Settings(shape=TreeShape(8, 4, 3), max_new_tokens=limit))[0].tokens == plain[:limit]
        )
    end = plain[4]
    target.model.generation_config.eos_token_id = [end, 1279]
    try:
        (answer,) = generate(target, batch, draft, Settings(shape=TreeShape(8, 4, 3), max_new_tokens=30))
    finally:
        target.model.generation_config.eos_token_id = target.config.eos_token_id
    assert answer.tokens == plain[: plain.index(end) + 1]
    assert len(answer.tokens) == answer.stats.tokens + 1


def test_stream_yields_what_generate_returns(target, draft):
    batch, out = prompt_of(target, "describe"), Generation()
    settings = Settings(max_new_tokens=15)
    pieces = list(stream_with(build_decoder(target, draft, settings), batch, settings, [out]))
    assert [token for (piece,) in pieces for token in piece] == out.tokens
    assert len(pieces) == out.stats.forwards + 1


def test_bad_prompts_and_drafts_are_refused(target, text_target, draft):
    batch = prompt_of(target, "arithmetic")
    with pytest.raises(UserError, match="max_new_tokens must be"):
        Settings(max_new_tokens=0)
    with pytest.raises(UserError, match="2 seeds for 1 prompts"):
        generate(target, batch, settings=Settings(seed=[1, 2]))
    with pytest.raises(UserError, match="temperature above 0"):
        Settings(sampled_drafts=True)
    with pytest.raises(UserError, match="context of 4096"):
        generate(target, batch, settings=Settings(max_new_tokens=5000))
    with pytest.raises(UserError, match="An empty stop string"):
        Settings(stop_strings=["x", ""])
    with pytest.raises(UserError, match="Give a list"):
        Settings(stop_strings="x")
    with pytest.raises(UserError, match="and a chain"):
        Settings(sampled_drafts=True, sampling=Sampling(temperature=1.0), shape=TreeShape(4, 2, 2))
    with pytest.raises(UserError, match="aux layer ids"):
        generate(target, batch, make_draft(text_target))
    for change, said in (
        ({"target_hidden_size": 32}, "target_hidden_size 32"),
        ({"hidden_size": 32}, "hidden_size 32"),
        ({"vocab_size": 1000}, "vocab_size 1000"),
    ):
        config = replace(draft.config, draft_vocab_size=1000, **{"vocab_size": 1000, **change})
        with pytest.raises(UserError, match=f"made for another target: .*{said}"):
            generate(target, batch, Eagle3Draft(config, DraftVocab.from_counts(torch.ones(config.vocab_size), 1000)))


def test_the_context_is_used_to_its_last_token(target, monkeypatch):
    batch = prompt_of(target, "arithmetic")
    monkeypatch.setattr(target.config, "max_position_embeddings", batch.input_ids.shape[1] + 9)
    assert generate(target, batch, settings=Settings(max_new_tokens=9))[0].tokens
    with pytest.raises(UserError, match="together they must fit"):
        generate(target, batch, settings=Settings(max_new_tokens=10))


def test_the_callers_end_tokens_and_no_seed(target, draft):
    batch = prompt_of(target, "describe")
    plain = generate(target, batch, settings=Settings(max_new_tokens=9))[0].tokens
    end = plain[4]
    assert generate(target, batch, draft, Settings(max_new_tokens=9, eos_ids={end}))[0].tokens == plain[: plain.index(end) + 1]
    options = {"sampling": Sampling(temperature=2.0), "max_new_tokens": 9}
    assert generate(target, batch, draft, Settings(**options)) != generate(target, batch, draft, Settings(**options))


@pytest.fixture(scope="module")
def folders(target, processor, tmp_path_factory):
    """A target and a draft on disk, which the plain reference reads."""
    folder = tmp_path_factory.mktemp("pair")
    target.model.save_pretrained(folder / "target")
    processor.save_pretrained(folder / "target")
    make_imitating_draft(target).save_pretrained(folder / "draft")
    return folder


def count_forwards(target, folders, max_new_tokens=16):
    draft = Eagle3Draft.from_pretrained(folders / "draft").float()
    plain = PlainReference(folders / "target", folders / "draft")
    ours, theirs = [], []
    for task in ("describe", "arithmetic", "multi-image"):
        batch = prompt_of(target, task, seed=2)
        (answer,) = generate(target, batch, draft, Settings(shape=TreeShape(4), max_new_tokens=max_new_tokens))
        ours.append((answer.tokens, answer.stats.forwards))
        theirs.append(plain.generate(batch.input_ids[0].tolist(), batch.vision_inputs, 4, max_new_tokens))
    return ours, theirs


@pytest.mark.slow
def test_forwards_equal_the_plain_reference(target, folders):
    """An implementation that shares no code and keeps no cache needs exactly as many verification forwards."""
    ours, theirs = count_forwards(target, folders)
    assert ours == theirs
    assert sum(forwards for _, forwards in ours) < 3 * 15, "no guess was ever right: the comparison says nothing"


@pytest.mark.slow
def test_draft_cache_not_restored_is_noticed(target, folders, monkeypatch):
    """Planted fault: rows made from the draft's own guesses stay in its cache instead of the true ones."""
    true_step = Drafter.extend

    def lazy(self, hidden, aux_hidden, *rest):
        return true_step(self, hidden, torch.zeros_like(aux_hidden), *rest)

    monkeypatch.setattr(Drafter, "extend", lazy)
    ours, theirs = count_forwards(target, folders)
    assert ours != theirs


def test_sampling_seed_repeats(target, draft):
    batch = prompt_of(target, "describe")
    options = {"sampling": Sampling(temperature=1.0), "max_new_tokens": 12}
    first, again = (generate(target, batch, draft, Settings(seed=3, **options))[0].tokens for _ in range(2))
    other = generate(target, batch, draft, Settings(seed=4, **options))[0].tokens
    assert first == again != other
