"""How sure a measured ratio is: bootstrap over prompts, because another run would have drawn others.

A unit is what one prompt contributed to some sums, such as (tokens, forwards); its turns stay together because they depend on
each other. Units are drawn with replacement, benchmark by benchmark, and the ratio of the sums is taken again: percentiles of
these are the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Comparisons are paired: a
unit then holds the sums of both sides, so what a prompt makes hard for both cancels.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vlm_eagle.evaluation.result_schema import Interval, TimedBatch, TurnResult
from vlm_eagle.evaluation.scores.names import DRAFTED

LEVEL = 0.95
RESAMPLES = 4000
_CELLS = 4_000_000  # random numbers held at a time

Units = Sequence[Sequence[float]]


def prompt_units(turns: Iterable[TurnResult]) -> list[tuple[int, int]]:
    """(tokens, forwards) of each prompt of a benchmark, its turns together."""
    sums: dict[str, list[int]] = {}
    for turn in turns:
        unit = sums.setdefault(turn.id, [0, 0])
        unit[0] += turn.num_committed
        unit[1] += turn.num_forwards
    return [(tokens, forwards) for tokens, forwards in sums.values()]


def paired_batches(batches: Sequence[TimedBatch], base: str, *, decode: bool = False) -> dict[Any, tuple[float, ...]]:
    """Turns of a batch -> (tokens, seconds) with the draft and (tokens, seconds) by the method `base`, repeats together. In
    all, or after each answer's first token. Batches not timed both ways are left out."""
    units: dict[Any, list[float]] = {}
    for batch in batches:
        if batch.method in (DRAFTED, base):
            unit = units.setdefault(tuple(batch.turns), [0.0] * 4)
            at = 0 if batch.method == DRAFTED else 2
            unit[at] += sum(batch.tokens) - (len(batch.tokens) if decode else 0)
            unit[at + 1] += batch.seconds - (batch.first if decode else 0.0)
    return {turns: tuple(unit) for turns, unit in units.items() if unit[1] and unit[3]}


def resample(units: Units, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(R, k) sums over n units drawn with replacement from `units` (n, k). The order of units does not matter."""
    table = np.asarray(units, dtype=np.float64)
    table = table[np.lexsort(table.T[::-1])]
    n, rng = len(table), np.random.default_rng(seed)
    step = max(_CELLS // n, 1)
    shares = np.full(n, 1 / n)
    return np.concatenate([rng.multinomial(n, shares, min(step, resamples - at)) @ table for at in range(0, resamples, step)])


def resample_groups(groups: Sequence[Units], resamples: int = RESAMPLES) -> np.ndarray:
    """(G, R, k): each group drawn from itself, because benchmarks are given and only their prompts are a sample. The order of
    groups does not matter either."""
    ordered = sorted(groups, key=lambda units: sorted(map(tuple, units)))
    return np.stack([resample(units, resamples, seed) for seed, units in enumerate(ordered)])


def grouped(groups: Sequence[Units]) -> list[Units]:
    """The groups to draw from: those of a single unit, which would never vary, are thrown together."""
    single = [unit for units in groups if len(units) == 1 for unit in units]
    return [units for units in groups if len(units) > 1] + ([single] if single else [])


def interval(groups: Sequence[Units], statistic: Callable[[np.ndarray], np.ndarray]) -> Interval | None:
    """[low, high] at `LEVEL` of statistic((G, R, k) sums) -> (R,), a ratio of sums over all groups; None where fewer than two
    units tell nothing."""
    if sum(map(len, groups)) < 2:
        return None
    return bounds(statistic(resample_groups(grouped(groups))))


def mean_interval(groups: Sequence[Units]) -> Interval | None:
    """[low, high] of the mean over groups of their ratios, a model card's "Average"; None where a group has but one unit."""
    if min(map(len, groups)) < 2:
        return None
    sums = resample_groups(groups)
    return bounds(divide(sums[..., 0], sums[..., 1]).mean(0))


def bounds(values: np.ndarray) -> Interval | None:
    """[low, high] at `LEVEL` of resampled values (R,); those without a meaning (0 / 0) are left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio(sums: np.ndarray) -> np.ndarray:
    """(R,) first sum over second, all groups together: tau of (tokens, forwards), speed of (tokens, seconds)."""
    total = sums.sum(0)
    return divide(total[:, 0], total[:, 1])


def quotient(sums: np.ndarray) -> np.ndarray:
    """(R,) of units (a, b, c, d): (a / b) / (c / d), such as speed with the draft over speed without it."""
    a, b, c, d = sums.sum(0).T
    return divide(divide(a, b), divide(c, d))


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, elementwise; NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b != 0)
