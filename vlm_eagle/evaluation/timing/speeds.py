"""Sums over timings, as the results want them: tokens over seconds, never means of ratios."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from vlm_eagle.evaluation.result_schema import BenchmarkSpeed, MethodSpeed, SpeedResult, TimedBatch
from vlm_eagle.evaluation.scores.intervals import interval, paired_batches, quotient, ratio
from vlm_eagle.evaluation.scores.names import DRAFTED, GENERATE, PLAIN
from vlm_eagle.evaluation.scores.our_column import answer_row
from vlm_eagle.evaluation.timing.benchmark import Timing

Timings = dict[str, list[Timing]]  # by method


def speed_result(head: dict[str, Any], timings: Sequence[Timing], names: Mapping[str, str], greedy: bool) -> SpeedResult:
    """The sums of one draft's timings and of those without a draft.

    Args:
        head: fields of the `DecodingSetup`, and shape.
        timings: of all methods.
        names: the methods that belong to it, and what the result calls them.
        greedy: whether answers are compared with the target's own.
    """
    parts = {
        benchmark: {
            shown: [timing for timing in timings if (timing.benchmark, timing.method) == (benchmark, name)]
            for name, shown in names.items()
        }
        for benchmark in dict.fromkeys(timing.benchmark for timing in timings)
    }
    whole = {shown: [timing for part in parts.values() for timing in part[shown]] for shown in names.values()}
    methods = _methods(whole, greedy)
    baselines = baselines_of(methods)
    benchmarks = [
        BenchmarkSpeed(name=name, methods=_methods(part, greedy), batches=_batches(part), **_gains([part], baselines))
        for name, part in parts.items()
    ]
    gains = _gains(list(parts.values()), baselines)
    return SpeedResult(**head, methods=methods, baselines=baselines, benchmarks=benchmarks, **gains)


def baselines_of(methods: Mapping[str, MethodSpeed]) -> dict[str, str]:
    """What speedups are against, end to end and in decoding: the fastest timed way to run the target alone, because a speedup
    that a user has without a draft is none."""
    alone = [name for name in (PLAIN, GENERATE) if name in methods]
    kinds = ("end_to_end", "decode")
    return {kind: max(alone, key=lambda name: getattr(methods[name], f"{kind}_tokens_per_second")) for kind in kinds if alone}


def _methods(timings: Timings, greedy: bool) -> dict[str, MethodSpeed]:
    alone = {_place(timing): timing.timed.tokens for timing in timings.get(PLAIN, [])}
    return {shown: _sums(own, alone if greedy else {}) for shown, own in timings.items()}


def _sums(timings: Sequence[Timing], alone: Mapping[Any, list[list[int]]]) -> MethodSpeed:
    timed = [timing.timed for timing in timings]
    tokens, total = sum(len(answer) for t in timed for answer in t.tokens), sum(t.total for t in timed)
    decode = sum(t.total - t.first for t in timed)
    committed, forwards = (sum(unit[i] for unit in _prompt_units(timings)) for i in (0, 1))
    equal = [a == b for timing in timings if alone for a, b in zip(timing.timed.tokens, alone[_place(timing)], strict=True)]
    return MethodSpeed(
        tokens=tokens, answers=sum(len(t.tokens) for t in timed), decode_seconds=decode,
        decode_tokens_per_second=sum(t.decoded for t in timed) / decode if decode else 0.0,
        end_to_end_seconds=total, end_to_end_tokens_per_second=tokens / total,
        first_token_seconds=mean(t.first for t in timed), acceptance_length=committed / forwards if forwards else None,
        forwards=forwards or None, equal_to_target_alone=sum(equal) if alone else None,
    )  # fmt: skip


def _gains(parts: Sequence[Timings], baselines: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Speedups`, of benchmarks taken together; nothing without a draft."""
    if DRAFTED not in parts[0]:
        return {}
    units = [_prompt_units(part[DRAFTED]) for part in parts]
    committed, forwards = (sum(unit[i] for group in units for unit in group) for i in (0, 1))
    gains: dict[str, Any] = {
        "acceptance_length": committed / forwards if forwards else 0.0, "acceptance_interval": interval(units, ratio),
    }  # fmt: skip
    for kind, base in baselines.items():
        prefix = "decode_" if kind == "decode" else ""
        pairs = [list(paired_batches(_batches(part), base, decode=kind == "decode").values()) for part in parts]
        a, b, c, d = (sum(unit[i] for group in pairs for unit in group) for i in range(4))
        gains[f"{prefix}speedup"] = (a / b) / (c / d) if b and c and d else None
        gains[f"{prefix}interval"] = interval(pairs, quotient)
    return gains


def _prompt_units(timings: Sequence[Timing]) -> list[tuple[int, int]]:
    """(tokens committed, verification forwards) of each prompt, its turns and repeats together; nothing of a method that is
    not ours."""
    sums: dict[str, list[int]] = {}
    for timing in timings:
        for (prompt, _), committed in zip(timing.turns, timing.timed.committed, strict=False):
            unit = sums.setdefault(prompt, [0, 0])
            unit[0] += sum(committed)
            unit[1] += len(committed)
    return [(tokens, forwards) for tokens, forwards in sums.values()]


def _batches(part: Timings) -> list[TimedBatch]:
    return [
        TimedBatch(
            turns=list(timing.turns), method=shown, repeat=timing.repeat, first=timing.timed.first,
            seconds=timing.timed.total, tokens=[len(answer) for answer in timing.timed.tokens],
        )
        for shown, timings in part.items()
        for timing in timings
    ]  # fmt: skip


def _place(timing: Timing) -> tuple[Any, ...]:
    return timing.benchmark, timing.turns, timing.repeat


def answers_of(timings: Sequence[Timing], method: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(benchmark, prompt id) -> what decoding decides of its turns (`our_column.answer_row`), in a method's first pass."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for timing in timings:
        if timing.method == method and timing.repeat == 0:
            answers = zip(timing.turns, timing.timed.tokens, timing.timed.committed, timing.timed.accepted, strict=True)
            for (prompt, turn), *answer in answers:
                found.setdefault((timing.benchmark, prompt), []).append({"turn": turn, **answer_row(*answer)})
    return {key: sorted(rows, key=lambda row: row["turn"]) for key, rows in found.items()}
