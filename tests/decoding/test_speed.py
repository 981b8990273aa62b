"""The speed model's parts: what is timed, and what a smaller tree would have accepted."""

import pytest
import torch
from conftest import make_imitating_draft

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.acceptance import VerifyResult, accept
from vlm_eagle.decoding.auto import CHAINS, PROBE, TREES, acceptance_of, choose_shape
from vlm_eagle.decoding.decode_loop import NO_DRAFT
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.timing import CycleCost, ForwardTimer, measure_cycles
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.records import Batch


def prompt_of(target, task="arithmetic"):
    return VisionCollator(target.processor, for_generation=True)([mix.sample(task, 1)])


def test_the_timer_sees_every_part_once_and_leaves_no_hooks(target, draft):
    decoder = SpeculativeDecoder(target, draft, TreeShape(8, 3, 3), Sampler(Sampling()))
    decoder.prefill(prompt_of(target), 20, [0])
    with ForwardTimer(decoder) as timer:
        decoder.cycle(torch.ones(1, dtype=torch.bool))
        calls = dict(timer.seconds)
    assert set(calls) == {"verify", "extend", "draft"}
    assert all(seconds > 0 for seconds in calls.values())
    decoder.cycle(torch.ones(1, dtype=torch.bool))
    assert dict(timer.seconds) == calls, "hooks were left behind"


def test_extend_is_told_from_growing(target, draft, monkeypatch):
    """With a clock that counts its own readings, every forward lasts one tick."""
    decoder = SpeculativeDecoder(target, draft, TreeShape(5), Sampler(Sampling()))
    decoder.prefill(prompt_of(target), 20, [0])
    ticks = iter(range(1000))
    with ForwardTimer(decoder) as timer:
        monkeypatch.setattr(timer, "now", lambda: next(ticks))
        decoder.cycle(torch.ones(1, dtype=torch.bool))
    # extend: fc and the layer; four proposals: norm and lm_head each, three of them a layer before; verify: decoder and lm_head
    assert dict(timer.seconds) == {"extend": 2, "draft": 4 * 2 + 3, "verify": 2}


def test_costs_add_up(target, draft):
    cost = measure_cycles(SpeculativeDecoder(target, draft, TreeShape(5), Sampler(Sampling())), prompt_of(target), 5)
    assert cost.total == pytest.approx(cost.verify + cost.extend + cost.draft + cost.overhead)
    assert min(cost.verify, cost.extend, cost.draft, cost.overhead) > 0
    ratios = CycleCost(2.0, 0.2, 0.4, 0.1).ratios(2.0)
    assert ratios == {"r_verify": 1.0, "r_extend": 0.1, "r_draft": 0.2, "r_overhead": 0.05}


@pytest.mark.slow
def test_smaller_trees_accept_what_the_probe_says(target):
    """From the same root, the same target: the probe's record of a cycle gives what every smaller shape commits."""
    draft = make_imitating_draft(target)
    sampler, active = Sampler(Sampling()), torch.ones(1, dtype=torch.bool)
    compared = 0
    ids = prompt_of(target).input_ids[0].tolist()
    answer = generate(target, prompt_of(target), settings=Settings(max_new_tokens=24))[0].tokens
    for written in range(len(answer)):  # at every point of an answer
        tokens = torch.tensor([ids + answer[:written]])
        prompt = Batch(tokens, torch.ones_like(tokens), torch.zeros_like(tokens, dtype=torch.bool))
        probe = SpeculativeDecoder(target, draft, PROBE, sampler)
        probe.prefill(prompt, 60, [0])
        result = probe.cycle(active)
        seen = acceptance_of(probe.tree, result)
        if seen.ranks:
            for shape in (*CHAINS, *TREES):
                decoder = SpeculativeDecoder(target, draft, shape, sampler)
                decoder.prefill(prompt, 60, [0])
                assert seen.tokens(shape) == int(decoder.cycle(active).counts), (written, shape)
            compared += 1
    assert compared, "nothing was ever accepted: the comparison says nothing"


def test_acceptance_of_a_drawn_tree():
    """root - 1 - 3, root - 2, scores say 2 is better than 1; the target drew 1, 3."""
    tree = DraftTree.from_parents(torch.tensor([[9, 1, 2, 3]]), torch.tensor([[-1, 0, 0, 1]]), 2)
    tree = DraftTree(tree.tokens, tree.parents, tree.depths, tree.ancestors, 2, scores=torch.tensor([[0.0, -2.0, -1.0, -2.5]]))
    verdict = accept(tree, torch.tensor([[1, 3, 0, 7]]))
    assert isinstance(verdict, VerifyResult)
    seen = acceptance_of(tree, verdict)
    assert seen.chain == 0
    assert seen.ranks[0] == (1, 1)  # node 2 is better, whatever depth is looked at
    assert seen.ranks[1][1] == 2
    assert [seen.tokens(TreeShape(n, 2, 2)) for n in (2, 3, 4)] == [1, 2, 3]
    assert seen.tokens(TreeShape(3)) == 1


@pytest.mark.slow
def test_choice_is_ordered_and_knows_no_draft(target, draft):
    forecasts = choose_shape(target, draft, [prompt_of(target)], max_new_tokens=24)
    speedups = [forecast.speedup for forecast in forecasts]
    assert speedups == sorted(speedups, reverse=True)
    assert {forecast.shape for forecast in forecasts} == {NO_DRAFT, *CHAINS, *TREES}
    plain = next(forecast for forecast in forecasts if forecast.shape == NO_DRAFT)
    assert plain.speedup == plain.acceptance_length == 1.0
    for forecast in forecasts:
        assert forecast.speedup == pytest.approx(forecast.acceptance_length * plain.seconds / forecast.seconds)
