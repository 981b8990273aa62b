"""Where a draft wins and loses: the same sums by kind of prompt, and along the answer."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import mean, median
from typing import Any

from vlm_eagle.evaluation.scores.intervals import interval, prompt_units, ratio

FIRST_STRETCH = 16  # tokens; each later stretch of an answer ends at twice the end of the one before


def breakdowns(groups: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Acceptance length by modality, language and turn, each kind of prompt alone, and by the place in the answer where a
    forward began. `groups` are the rows of each benchmark."""
    rows = [row for group in groups for row in group]
    found = {name: _by(groups, lambda row, name=name: str(row[name])) for name in ("modality", "language", "turn")}
    return {**found, "answer_position": by_answer_position(rows), "answer_tokens": answer_lengths(rows)}


def by_answer_position(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Forwards by the number of answer tokens that stood before them, in stretches that double: [0, 16), [16, 32), [32, 64) ...
    Rows of servers, which do not say what each forward committed, are left out."""
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        committed = row.get("committed", ())
        for before, tokens in zip(accumulate(committed, initial=1), committed, strict=False):
            unit = sums[stretch_of(before)]
            unit[0] += tokens
            unit[1] += 1
    return [
        {"from": _start(i), "to": _start(i + 1), "tokens": n, "forwards": f, "acceptance_length": n / f}
        for i, (n, f) in sorted(sums.items())
    ]


def stretch_of(before: int) -> int:
    """The number of the stretch in which a forward begins that has so many tokens of the answer before it."""
    return (before // FIRST_STRETCH).bit_length()


def stretch_name(number: int) -> str:
    """Its tokens, counted from 1. The first token is the prefill's, so verification begins with the second: 2-16, 17-32 ..."""
    return f"{max(_start(number) + 1, 2)}-{_start(number + 1)}"


def _start(number: int) -> int:
    return FIRST_STRETCH << (number - 1) if number else 0


def answer_lengths(rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Mean, median and largest number of tokens of an answer; None without any."""
    lengths = [1 + row["num_committed"] for row in rows]
    return {"mean": mean(lengths), "median": median(lengths), "max": max(lengths)} if lengths else None


def _by(groups: Sequence[Sequence[dict[str, Any]]], key: Callable[[dict[str, Any]], str]) -> dict[str, dict[str, Any]]:
    kinds: dict[str, list[list[dict[str, Any]]]] = {}
    for number, group in enumerate(groups):
        for row in group:
            kinds.setdefault(key(row), [[] for _ in groups])[number].append(row)
    return {kind: _sums([prompt_units(rows) for rows in parts if rows]) for kind, parts in sorted(kinds.items())}


def _sums(parts: list[list[tuple[int, int]]]) -> dict[str, Any]:
    tokens, forwards = (sum(unit[i] for units in parts for unit in units) for i in (0, 1))
    length = tokens / forwards if forwards else 0.0
    return {
        "prompts": sum(map(len, parts)), "tokens": tokens, "forwards": forwards, "acceptance_length": length,
        "interval": interval(parts, ratio),
    }  # fmt: skip
