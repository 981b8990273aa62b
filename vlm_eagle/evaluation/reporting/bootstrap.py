"""Intervals of the report's own breakdowns, by the bootstrap of `scores/intervals.py` with fewer draws: a page has dozens."""

from vlm_eagle.evaluation.reporting.records import Interval
from vlm_eagle.evaluation.scores.intervals import Units, bounds, grouped, ratio, resample_groups

RESAMPLES = 1000


def tau_interval(groups: list[Units]) -> Interval | tuple[None, None]:
    """95 % interval of tokens over forwards; a group is a benchmark, a unit a prompt's (tokens, forwards)."""
    if sum(map(len, groups)) < 2:
        return None, None
    found = bounds(ratio(resample_groups(grouped(groups), RESAMPLES)))
    return (found[0], found[1]) if found else (None, None)
