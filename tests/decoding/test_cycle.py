"""What a decoder keeps from one cycle, and from one prompt, to the next."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_imitating_draft
from variants import make_variant

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate, stream_with
from vlm_eagle.decoding.graphs import RecordedCycles
from vlm_eagle.decoding.sampling import Sampler, Sampling, uniform_numbers
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.records import Batch


def prompts_of(target, *tasks):
    return VisionCollator(target.processor, for_generation=True)([mix.sample(task, 3) for task in tasks])


SHAPE = TreeShape(5)


def decoder_for(target, draft, shape=SHAPE, sampling=None):
    return SpeculativeDecoder(target, draft, shape, Sampler(sampling or Sampling()))


@pytest.mark.parametrize("shape", [TreeShape(4), TreeShape(8, 3, 3)], ids=str)
def test_a_paused_row_goes_on_where_it_stood(target, shape):
    """A row that is not going commits nothing, moves nothing, and looks at nothing that was not committed."""
    draft, prompts = make_imitating_draft(target), prompts_of(target, "describe", "arithmetic")
    written = []
    for paused in ((), (1, 2, 4)):
        decoder = decoder_for(target, draft, shape)
        answers = [[token] for token in decoder.prefill(prompts, 60, [0, 0]).tolist()]
        for number in range(9):
            active = torch.tensor([True, number not in paused])
            before = [t[1].clone() for t in (decoder.state.lengths, decoder.state.root)]
            committed = decoder.cycle(active).to_host()
            decoder.on_commit(committed)
            if number in paused:
                assert committed[1] == []
                assert [t[1] for t in (decoder.state.lengths, decoder.state.root)] == before
            for answer, new in zip(answers, committed, strict=True):
                answer += new
        written.append(answers)
    assert written[1][0] == written[0][0]
    assert written[1][1] == written[0][1][: len(written[1][1])]
    assert 6 < len(written[1][1]) < len(written[0][1])


def test_an_interrupted_reading_leaves_no_half_state(target, draft):
    """Ctrl-C while a prompt is read: the caches hold parts of two prompts then, and the next one begins anew."""
    decoder, settings = decoder_for(target, draft), Settings(shape=SHAPE, max_new_tokens=8)
    first = prompts_of(target, "multi-image")
    other = VisionCollator(target.processor, for_generation=True)([mix.sample("multi-image", 4)])

    def interrupt(*_):
        raise KeyboardInterrupt

    list(stream_with(decoder, first, settings))
    hook = target.decoder.layers[3].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        decoder.prefill(other, 8, [0])
    hook.remove()
    tokens = [token for (piece,) in stream_with(decoder, first, settings) for token in piece]
    assert tokens == generate(target, first, draft, Settings(shape=SHAPE, max_new_tokens=8))[0].tokens


@pytest.mark.slow
def test_a_picture_is_told_from_the_one_before(target, draft):
    """Two pictures of one size under the same words, in turn; and `forget` has everything read again."""
    decoder, settings = decoder_for(target, draft), Settings(shape=SHAPE, max_new_tokens=6)
    one = prompts_of(target, "describe")
    other = replace(one, vision_inputs={**one.vision_inputs, "pixel_values": one.vision_inputs["pixel_values"].flip(0)})
    expected = [generate(target, prompt, draft, Settings(shape=SHAPE, max_new_tokens=6))[0].tokens for prompt in (one, other)]
    looked = []
    hook = target.model.model.visual.register_forward_pre_hook(lambda *_: looked.append(1))
    for prompt, tokens in zip((one, other, one, one), (*expected, *expected[:1] * 2), strict=True):
        assert [token for (piece,) in stream_with(decoder, prompt, settings) for token in piece] == tokens
    assert len(looked) == 3
    decoder.reset_cache()
    list(stream_with(decoder, one, settings))
    hook.remove()
    assert len(looked) == 4
    assert expected[0] != expected[1]


@pytest.mark.parametrize("limit", range(9, 15))
def test_the_drafts_rows_are_whole_in_the_next_turn(text_target, limit):
    """The next prompt is the last one, its answer to the last token, and more. The draft's cache lags a cycle behind the
    target's: what it lacks is read again, however many tokens the last cycle committed."""
    draft, prompt = make_imitating_draft(text_target), prompts_of(text_target, "arithmetic")
    decoder, fresh = decoder_for(text_target, draft), decoder_for(text_target, draft)
    settings = Settings(shape=SHAPE, max_new_tokens=limit, eos_ids=set())
    answer = [token for (piece,) in stream_with(decoder, prompt, settings) for token in piece]
    ids = torch.cat([prompt.input_ids, torch.tensor([[*answer, 5, 6, 7]])], dim=1)
    longer = Batch(ids, torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool))
    for one in (decoder, fresh):
        list(stream_with(one, longer, settings))
    torch.testing.assert_close(decoder.state.hidden, fresh.state.hidden, rtol=1e-4, atol=1e-4)


def test_what_the_limit_cuts_off_was_not_accepted(target):
    draft, prompt = make_imitating_draft(target), prompts_of(target, "describe")
    for limit in range(2, 12):
        (answer,) = generate(target, prompt, draft, Settings(shape=SHAPE, max_new_tokens=limit))
        assert sum(answer.drafted) == sum(answer.stats.accepted_at)
    assert any(answer.drafted)


def test_every_cycle_has_random_numbers_of_its_own(target, draft):
    """The prefill, and each cycle after it."""
    decoder, seen = decoder_for(target, draft, sampling=Sampling(temperature=1.0)), []
    decoder.prefill(prompts_of(target, "arithmetic"), 20, [7])
    seen.append(decoder.state.uniform[0].clone())
    for _ in range(3):
        decoder.cycle(torch.ones(1, dtype=torch.bool))
        seen.append(decoder.state.uniform[0].clone())
    expected = torch.from_numpy(np.random.default_rng(7).random((20, 15)))[:4]
    assert torch.equal(torch.stack(seen), expected)


def test_no_two_seeds_draw_alike():
    """Not even those that are equal in their low 32 bits, which is all that torch's generator looks at on a CPU."""
    seeds = [3, 3 + 2**32, 3 + 2**63, 2**64 - 1]
    numbers = uniform_numbers(seeds, 2, 4, torch.device("cpu"))
    assert len({tuple(one.flatten().tolist()) for one in numbers}) == len(seeds)


def test_drafts_are_drawn_as_the_target_draws(target, draft):
    """Under the same sampling parameters: a token that the target may not say is not worth proposing."""
    decoder = SpeculativeDecoder(target, draft, SHAPE, Sampler(Sampling(temperature=0.7, top_k=3)), sampled_drafts=True)
    decoder.prefill(prompts_of(target, "arithmetic"), 20, [7])
    uniform, state = torch.rand(1, SHAPE.num_draft_tokens - 1, dtype=torch.float64), decoder.state
    tree = decoder.drafter.propose(state.hidden, state.root, state.seq_lens(100), decoder.sampler, uniform)
    assert (tree.proposals > 0).sum(-1).tolist() == [[3] * 4]


def test_mrope_rows_stand_where_the_latest_prompt_says(target):
    """One decoder, two prompts whose images take up different numbers of positions."""
    draft = make_variant(target, mrope_section=(6, 5, 5), mrope_interleaved=True)
    settings = Settings(shape=TreeShape(4), max_new_tokens=6)
    decoder = decoder_for(target, draft, settings.shape)
    for task in ("arithmetic", "multi-image"):
        list(stream_with(decoder, prompts_of(target, task), settings))
        fresh = decoder_for(target, draft, settings.shape)
        list(stream_with(fresh, prompts_of(target, task), settings))
        assert torch.equal(decoder.state.rope_delta, fresh.state.rope_delta)
        torch.testing.assert_close(decoder.state.hidden, fresh.state.hidden, rtol=1e-4, atol=1e-4)
    assert decoder.state.rope_delta < 0


@pytest.mark.slow
def test_recordings_are_made_once_per_bucket_and_not_kept_too_long(target, draft):
    """A recording is bound to tensors: new ones are made when these are replaced, and only then."""
    made = []

    def record(action, reset):
        made.append(action)
        return action

    decoder = decoder_for(target, draft)
    decoder.recorded = RecordedCycles(record)
    numbers, one, two = [], prompts_of(target, "arithmetic"), prompts_of(target, "arithmetic", "arithmetic")
    for prompt, most in ((one, 12), (one, 12), (one, 250), (two, 12), (one, 12)):
        list(stream_with(decoder, prompt, Settings(shape=SHAPE, max_new_tokens=most, eos_ids=set())))
        numbers.append(len(made))
    assert numbers[:2] == [1, 1]
    assert numbers[2] == 3, "larger caches are other tensors, and so many tokens need two buckets"
    assert numbers[3:] == [4, 5], "another number of rows: everything is another tensor"
