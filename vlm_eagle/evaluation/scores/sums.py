"""The sums in the results: tokens, forwards and accepted positions over prompts, by kind of prompt, and along the answer.

Everything can be counted again from the turns: tokens = sum of `committed`, forwards = length of `committed`, position i
accepted = `accepted` >= i.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from statistics import mean, median
from typing import Any

from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.evaluation.result_schema import (
    AcceptanceResult,
    AnswerTokens,
    BenchmarkResult,
    Breakdown,
    Breakdowns,
    Stretch,
    Totals,
    TurnResult,
)
from vlm_eagle.evaluation.scores.intervals import interval, mean_interval, prompt_units, ratio

FIRST_STRETCH = 16  # tokens; each later stretch of an answer ends at twice the end of the one before

Groups = Sequence[Sequence[TurnResult]]  # by benchmark


def stats_of(turn: TurnResult, depth: int) -> AcceptanceStats:
    """What one turn took; `depth` is the tree's."""
    if turn.committed is None or turn.accepted is None:
        return AcceptanceStats(turn.num_forwards, turn.num_committed, list(turn.accepted_at or ()))
    stats = AcceptanceStats()
    for tokens, accepted in zip(turn.committed, turn.accepted, strict=True):
        stats.record(accepted, tokens, depth)
    return stats


def totals(groups: Groups, depth: int) -> Totals:
    """The sums over all turns."""
    stats = AcceptanceStats()
    for turn in (turn for turns in groups for turn in turns):
        stats += stats_of(turn, depth)
    return Totals(
        tokens=stats.tokens, forwards=stats.forwards, acceptance_length=stats.acceptance_length,
        interval=interval([prompt_units(turns) for turns in groups if turns], ratio),
        by_position=stats.by_position, conditional=stats.conditional,
    )  # fmt: skip


def benchmark_result(
    name: str, turns: list[TurnResult], skipped: Mapping[str, int], *, depth: int, max_new_tokens: int
) -> BenchmarkResult:
    """One benchmark in one setting."""
    return BenchmarkResult(
        **asdict(totals([turns], depth)), name=name, answer_tokens=answer_lengths(turns), max_new_tokens=max_new_tokens,
        skipped=dict(skipped), prompts=turns,
    )  # fmt: skip


def acceptance_result(head: dict[str, Any], benchmarks: list[BenchmarkResult]) -> AcceptanceResult:
    """One setting; `head` are the fields of its `DecodingSetup`."""
    groups = [benchmark.prompts for benchmark in benchmarks]
    return AcceptanceResult(
        **head, average_acceptance_length=mean(benchmark.acceptance_length for benchmark in benchmarks),
        average_interval=mean_interval([prompt_units(turns) for turns in groups]), totals=totals(groups, head["num_steps"]),
        breakdowns=breakdowns(groups), benchmarks=benchmarks,
    )  # fmt: skip


def breakdowns(groups: Groups) -> Breakdowns:
    """Acceptance by modality, language and turn, each kind of prompt alone, and by the place in the answer."""
    return Breakdowns(
        modality=_by(groups, lambda turn: turn.modality), language=_by(groups, lambda turn: turn.language),
        turn=_by(groups, lambda turn: str(turn.turn)), answer_position=by_answer_position(groups),
        answer_tokens=answer_lengths([turn for turns in groups for turn in turns]),
    )  # fmt: skip


def by_answer_position(groups: Groups) -> list[Stretch]:
    """Forwards by the number of answer tokens that stood before them, in stretches that double: [0, 16), [16, 32), [32, 64) ...
    Turns of servers, which do not say what each forward committed, are left out."""
    units: dict[int, dict[int, dict[str, list[int]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: [0, 0])))
    for number, turns in enumerate(groups):
        for turn in turns:
            committed = turn.committed or []
            for before, tokens in zip(accumulate(committed, initial=1), committed, strict=False):
                unit = units[stretch_of(before)][number][turn.id]
                unit[0] += tokens
                unit[1] += 1
    return [
        Stretch(start=_start(i), end=_start(i + 1), **_sums([list(prompts.values()) for prompts in parts.values()]))
        for i, parts in sorted(units.items())
    ]


def stretch_of(before: int) -> int:
    """The number of the stretch in which a forward begins that has this many tokens of the answer before it."""
    return (before // FIRST_STRETCH).bit_length()


def stretch_name(number: int) -> str:
    """Its tokens, counted from 1. The first token is the prefill's, so verification begins with the second: 2-16, 17-32 ..."""
    return f"{max(_start(number) + 1, 2)}-{_start(number + 1)}"


def _start(number: int) -> int:
    return FIRST_STRETCH << (number - 1) if number else 0


def answer_lengths(turns: Sequence[TurnResult]) -> AnswerTokens | None:
    """Tokens of an answer; None without any answer."""
    lengths = [1 + turn.num_committed for turn in turns]
    return AnswerTokens(mean=mean(lengths), median=median(lengths), max=max(lengths)) if lengths else None


def _by(groups: Groups, kind_of: Callable[[TurnResult], str]) -> dict[str, Breakdown]:
    kinds: dict[str, list[list[TurnResult]]] = {}
    for number, turns in enumerate(groups):
        for turn in turns:
            kinds.setdefault(kind_of(turn), [[] for _ in groups])[number].append(turn)
    return {
        kind: Breakdown(**_sums([prompt_units(turns) for turns in parts if turns])) for kind, parts in sorted(kinds.items())
    }


def _sums(parts: list[Any]) -> dict[str, Any]:
    """The fields of a Breakdown from the (tokens, forwards) of each prompt, by benchmark."""
    tokens, forwards = (sum(unit[i] for units in parts for unit in units) for i in (0, 1))
    return {
        "prompts": sum(map(len, parts)), "tokens": tokens, "forwards": forwards,
        "acceptance_length": tokens / forwards if forwards else 0.0, "interval": interval(parts, ratio),
    }  # fmt: skip
