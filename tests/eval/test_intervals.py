"""Intervals cover what they should, and depend on the units alone."""

import random

import numpy as np
import pytest

from vlm_eagle.evaluation.result_schema import TurnResult
from vlm_eagle.evaluation.scores import intervals
from vlm_eagle.evaluation.scores.intervals import (
    bounds,
    interval,
    mean_interval,
    prompt_units,
    quotient,
    ratio,
    resample,
    resample_groups,
)


def prompts(rng, n, tau=3.0):
    """(tokens, forwards) of n prompts with long and short answers and easy and hard ones."""
    forwards = rng.integers(4, 60, n)
    return [(float(t), float(f)) for t, f in zip(rng.poisson(forwards * rng.gamma(9, tau / 9, n)), forwards, strict=True)]


@pytest.mark.slow
def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng, hits, runs = np.random.default_rng(0), 0, 120
    for _ in range(runs):
        low, high = interval([prompts(rng, 40), prompts(rng, 60)], ratio)
        hits += low <= 3.0 <= high
    assert 0.89 <= hits / runs <= 0.99


def test_resampling_is_what_a_plain_loop_does():
    units = [(5, 2), (9, 3), (1, 1), (12, 7)]
    rng = random.Random(0)
    plain = np.array([np.sum([rng.choice(units) for _ in units], axis=0) for _ in range(20_000)], dtype=float)
    ours = resample(units, 20_000)
    np.testing.assert_allclose(ours.mean(0), np.sum(units, axis=0), rtol=0.02)
    np.testing.assert_allclose(np.cov(ours.T), np.cov(plain.T), rtol=0.08)


def test_neither_order_nor_memory_matters(monkeypatch):
    rng = np.random.default_rng(1)
    groups = [prompts(rng, 30), prompts(rng, 5), prompts(rng, 1), prompts(rng, 1)]
    expected = interval(groups, ratio), mean_interval(groups[:2])
    shuffled = [units[::-1] for units in groups[::-1]]
    assert interval(shuffled, ratio) == expected[0]
    assert mean_interval(groups[1::-1]) == pytest.approx(expected[1])
    monkeypatch.setattr(intervals, "_CELLS", 100)
    assert interval(groups, ratio) == expected[0]


def test_benchmarks_are_drawn_each_from_itself():
    """Two benchmarks without variance inside have none together, however far apart they are."""
    assert interval([[(8, 2)] * 5, [(3, 3)] * 5], ratio) == (11 / 5, 11 / 5)
    assert resample_groups([[(8, 2)] * 5, [(3, 3)] * 5], 7).shape == (2, 7, 2)


def test_too_few_units_tell_nothing():
    assert interval([[(8, 2)]], ratio) is None
    assert interval([[]], ratio) is None
    assert mean_interval([[(8, 2), (7, 2)], [(1, 1)]]) is None
    low, high = interval([[(8, 2)], [(3, 3)]], ratio)  # single prompts of several benchmarks are drawn together
    assert low < 11 / 5 < high


def test_answers_without_a_forward_do_no_harm():
    assert interval([[(0, 0), (6, 2), (0, 0)]], ratio) == (3.0, 3.0)
    assert bounds(np.array([np.nan, np.nan])) is None


def test_pairs_cancel_what_both_sides_share():
    rng = np.random.default_rng(2)
    hardness = rng.gamma(2, 1, 80)
    noise = rng.normal(1, 0.02, 80)
    paired = [(float(h * 2 * e), 10.0, float(h), 10.0) for h, e in zip(hardness, noise, strict=True)]
    low, high = interval([paired], quotient)
    assert 1.98 < low < 2.0 < high < 2.02
    apart = [(*a[:2], *b[2:]) for a, b in zip(paired, sorted(paired), strict=True)]
    wide = interval([apart], quotient)
    assert wide[1] - wide[0] > 10 * (high - low)


def test_turns_of_a_prompt_stay_together():
    about = {"question": "", "images": [], "language": "en", "modality": "text", "turn": 0}
    counts = (("a", 3, 1), ("b", 2, 2), ("a", 4, 2))
    turns = [TurnResult(id=i, num_committed=c, num_forwards=f, **about) for i, c, f in counts]
    assert prompt_units(turns) == [(7, 3), (2, 2)]
