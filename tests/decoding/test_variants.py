"""Drafts as others make them propose, in our loop, what plain formulas say."""

import pytest
import torch
from conftest import make_draft
from variants import VARIANTS, VariantReference, make_variant

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate, stream_with
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError


@pytest.fixture(scope="module")
def pair(target, processor, tmp_path_factory):
    """A target on disk, and a place for drafts."""
    folder = tmp_path_factory.mktemp("variants")
    target.model.save_pretrained(folder / "target")
    processor.save_pretrained(folder / "target")
    return folder


def proposals(target, draft, batch, shape):
    """What was proposed after each prefix of the answer: [(answer so far, tokens)]."""
    settings = Settings(shape=shape, max_new_tokens=7)
    decoder = SpeculativeDecoder(target, draft, shape, Sampler(settings.sampling))
    answer, seen = [], []
    for (piece,) in stream_with(decoder, batch, settings):
        if answer:
            seen.append((list(answer), decoder.tree.tokens[0, 1:].tolist()))
        answer += piece
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_proposals_are_those_of_the_plain_formulas(target, pair, name):
    draft = make_variant(target, **VARIANTS[name])
    draft.save_pretrained(pair / name)
    draft = Eagle3Draft.from_pretrained(pair / name)
    plain = VariantReference(pair / "target", pair / name)
    for task in ("describe", "arithmetic"):
        batch = VisionCollator(target.processor, for_generation=True)([mix.sample(task, 2)])
        prompt = batch.input_ids[0].tolist()
        plain.see(prompt, batch.vision_inputs)
        seen = proposals(target, draft, batch, TreeShape(4))
        assert len(seen) >= 2
        for answer, proposed in seen:
            ids = prompt + answer
            _, aux = plain.target_forward(ids, batch.vision_inputs)
            assert proposed == plain.propose(ids, aux, 3), (task, len(answer))


@pytest.mark.slow
def test_every_option_changes_the_proposals(target):
    """Else the test above would say nothing."""
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 2)])
    plain = [tokens for _, tokens in proposals(target, make_variant(target), batch, TreeShape(4))]
    for name, options in VARIANTS.items():
        draft = make_variant(target, **options)
        draft.load_state_dict(make_variant(target).state_dict(), strict=False) if "full" not in name else None
        changed = [tokens for _, tokens in proposals(target, draft, batch, TreeShape(4))] != plain
        assert changed == bool(options), name


def test_mrope_in_a_ragged_batch_and_a_second_turn(target):
    """Every sequence has its own rope delta; a prompt read on from a known beginning stands where it would stand alone."""
    draft = make_variant(target, **VARIANTS["M-RoPE interleaved"])
    collator = VisionCollator(target.processor, for_generation=True)
    samples = [mix.sample(task, 3) for task in ("describe", "arithmetic", "multi-image")]
    together = generate(target, collator(samples), draft, Settings(shape=TreeShape(4), max_new_tokens=6))
    for sample, answer in zip(samples, together, strict=True):
        (alone,) = generate(target, collator([sample]), draft, Settings(shape=TreeShape(4), max_new_tokens=6))
        assert (alone.tokens, alone.stats.forwards) == (answer.tokens, answer.stats.forwards)

    settings = Settings(shape=TreeShape(4), max_new_tokens=6)
    first = collator([mix.sample("describe", 3)])
    longer = collator([mix.sample("describe", 3).answered("Yes.").asked("And then?")])
    decoder, rows = SpeculativeDecoder(target, draft, settings.shape, Sampler(settings.sampling)), []
    list(stream_with(decoder, first, settings))
    for forget in (False, True):
        if forget:
            decoder.reset_cache()
        list(zip(stream_with(decoder, longer, settings), range(2), strict=False))
        rows.append(decoder.state.hidden.clone())
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-4)


def test_equal_coordinates_are_one_dimension(text_target):
    """On text, an M-RoPE draft is a 1-D one, with a text-only target too."""
    batch = VisionCollator(text_target.processor, for_generation=True)([mix.sample("arithmetic", 2)])
    with_mrope = proposals(text_target, make_variant(text_target, mrope_section=(6, 5, 5)), batch, TreeShape(4))
    assert with_mrope == proposals(text_target, make_variant(text_target), batch, TreeShape(4))


def test_own_embeddings_cannot_read_merged_ones(target):
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 2)])
    with pytest.raises(UserError, match="brings its own embeddings"):
        generate(target, batch, make_variant(target, has_own_embed_tokens=True), Settings(image_inputs="visual_embeds"))
    generate(target, batch, make_draft(target), Settings(image_inputs="visual_embeds", max_new_tokens=2))
