"""Sums over laps, as the results want them: tokens over seconds, never means of ratios.

A Speed is one draft, tree, sampling and number of prompts side by side, against the target alone in the same run, in our loop
or in transformers' generate, whichever was faster ("baselines"):

    {"draft", "target", "num_draft_tokens", ..., "sampling", "concurrency", "shape": in words, "methods": {name: sums},
     "baselines": {"end_to_end": method, "decode": method}, "speedup", "interval", "decode_speedup", "decode_interval",
     "acceptance_length", "acceptance_interval",
     "benchmarks": [{"name", "methods", "speedup", "interval", ..., "batches": [...]}], "speed_model", "forecasts"}

"speedup" is of tokens per second in all, prompt and images included; "decode_speedup" of the time after each answer's first
token. Intervals are 95 %, bootstrap: of speedups over batches (prompts, where concurrency is 1), both methods' seconds paired;
of the acceptance length over prompts.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from vlm_eagle.evaluation.scores.columns import answer_row
from vlm_eagle.evaluation.scores.intervals import interval, paired_batches, prompt_units, quotient, ratio
from vlm_eagle.evaluation.scores.names import DRAFTED, GENERATE, PLAIN
from vlm_eagle.evaluation.timing.benchmark import Timing

Timings = dict[str, list[Timing]]  # by method


def speed_result(head: dict[str, Any], timings: Sequence[Timing], names: Mapping[str, str], greedy: bool) -> dict[str, Any]:
    """A Speed. `names` are the methods among the laps that belong to it, and what it calls them; greedy answers are
    compared."""
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
        {"name": name, "methods": _methods(part, greedy), **_gains([part], baselines), "batches": _batches(part)}
        for name, part in parts.items()
    ]
    gains = _gains(list(parts.values()), baselines)
    return {**head, "methods": methods, "baselines": baselines, **gains, "benchmarks": benchmarks}


def baselines_of(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What speedups are against, end to end and in decoding: of the ways to run the target alone that were timed, the fastest.
    A speedup that a user has by doing nothing is none."""
    alone = [name for name in (PLAIN, GENERATE) if name in methods]
    kinds = ("end_to_end", "decode")
    return {kind: max(alone, key=lambda name: methods[name][f"{kind}_tokens_per_second"]) for kind in kinds if alone}


def _methods(timings: Timings, greedy: bool) -> dict[str, dict[str, Any]]:
    alone = {_place(timing): timing.timed.tokens for timing in timings.get(PLAIN, [])}
    return {shown: _sums(own, alone if greedy else {}) for shown, own in timings.items()}


def _sums(timings: Sequence[Timing], alone: Mapping[Any, list[list[int]]]) -> dict[str, Any]:
    timed = [timing.timed for timing in timings]
    tokens, total = sum(len(answer) for t in timed for answer in t.tokens), sum(t.total for t in timed)
    decode = sum(t.total - t.first for t in timed)
    committed, forwards = map(sum, zip(*map(_accepted, timings), strict=True))
    equal = [a == b for timing in timings if alone for a, b in zip(timing.timed.tokens, alone[_place(timing)], strict=True)]
    return {
        "tokens": tokens,
        "decode_seconds": decode,
        "decode_tokens_per_second": sum(t.decoded for t in timed) / decode if decode else 0.0,
        "end_to_end_seconds": total,
        "end_to_end_tokens_per_second": tokens / total,
        "first_token_seconds": mean(t.first for t in timed),
        "acceptance_length": committed / forwards if forwards else None,
        "forwards": forwards or None,
        "answers": sum(len(t.tokens) for t in timed),
        "equal_to_target_alone": sum(equal) if alone else None,
    }


def _gains(parts: Sequence[Timings], baselines: Mapping[str, str]) -> dict[str, Any]:
    """Acceptance length and speedups of benchmarks taken together; nothing without a draft."""
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


def _accepted(timing: Timing) -> tuple[int, int]:
    """(tokens committed, verification forwards); zeros of a method that is not ours."""
    return sum(map(sum, timing.timed.committed)), sum(map(len, timing.timed.committed))


def _prompt_units(timings: Sequence[Timing]) -> list[tuple[int, int]]:
    """(tokens committed, forwards) of each prompt, its turns and repeats together."""
    rows = (
        {"id": prompt, "num_committed": sum(committed), "num_forwards": len(committed)}
        for timing in timings
        for (prompt, _), committed in zip(timing.turns, timing.timed.committed, strict=True)
    )
    return prompt_units(rows)


def _batches(part: Timings) -> list[dict[str, Any]]:
    """What was timed, batch by batch: enough to count everything again, and to compare two files."""
    return [
        {
            "turns": [list(turn) for turn in timing.turns], "method": shown, "repeat": timing.repeat,
            "first": timing.timed.first,
            "seconds": timing.timed.total, "tokens": [len(answer) for answer in timing.timed.tokens],
        }
        for shown, timings in part.items()
        for timing in timings
    ]  # fmt: skip


def _place(timing: Timing) -> tuple[Any, ...]:
    return timing.benchmark, timing.turns, timing.repeat


def answers_of(timings: Sequence[Timing], method: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(benchmark, prompt id) -> what decoding decides of its turns' rows (`columns.answer_row`), in a method's first pass."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for timing in timings:
        if timing.method == method and timing.repeat == 0:
            answers = zip(timing.turns, timing.timed.tokens, timing.timed.committed, timing.timed.accepted, strict=True)
            for (prompt, turn), *answer in answers:
                found.setdefault((timing.benchmark, prompt), []).append({"turn": turn, **answer_row(*answer)})
    return {key: sorted(rows, key=lambda row: row["turn"]) for key, rows in found.items()}
