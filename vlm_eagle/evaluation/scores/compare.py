"""What changed from one file of results to another: `vlm-eagle score --compare a.json b.json`, or speedup.

Settings that draft and sample alike are compared on the prompts both files have, in pairs: a prompt's sums of both sides are
drawn together. A change is significant when another draw of prompts would hardly produce it: its one-sided p-value, the share
of resamples without it, stays below 2.5 % after Holm's correction for the number of lines. n prompts alone cannot give
less than 2^-n (all of them worse by chance), so that a handful proves nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.result_schema import (
    AcceptanceResult,
    BenchmarkResult,
    DecodingSetup,
    Interval,
    SpeedResult,
    TurnResult,
    read_results,
)
from vlm_eagle.evaluation.scores.acceptance_tables import numbers_table, tree_kind
from vlm_eagle.evaluation.scores.intervals import (
    Units,
    bounds,
    divide,
    grouped,
    paired_batches,
    prompt_units,
    quotient,
    ratio,
    resample_groups,
)
from vlm_eagle.evaluation.scores.names import PLAIN, short_names
from vlm_eagle.evaluation.scores.option_words import sampling_label

ALPHA = 0.025  # one-sided
RESAMPLES = 10_000
ALL = "All"

Compared = TypeVar("Compared", AcceptanceResult, SpeedResult)
Statistic = Callable[[np.ndarray], np.ndarray]  # (G, R, k) sums -> (R,), the figure in one of the files


@dataclass(frozen=True)
class Change:
    """One line: a figure of one benchmark (or all) in both files.

    Attributes:
        title: of the pair of settings.
        figure: what is compared.
        benchmark: its name, or All.
        prompts: common to both files.
        before: the figure in the first file, over the common prompts.
        after: in the second.
        interval: [low, high] of after / before - 1; None from one prompt.
        loss: one-sided p-value of after < before.
        gain: of after > before.
    """

    title: str
    figure: str
    benchmark: str
    prompts: int
    before: float
    after: float
    interval: Interval | None
    loss: float
    gain: float


def compare(files: Sequence[str], console: Console) -> int:
    """Prints what changed from the first file to the second. 1 if anything became significantly worse, else 0.

    Raises:
        UserError: not two files, foreign or damaged ones, or nothing in them that can be compared.
    """
    if len(files) != 2:
        raise UserError(f"--compare takes two files of results, found {len(files)}.")
    before, after = (read_results(Path(file)) for file in files)
    notes: list[str] = []
    changes, lost = _settings(before.settings, after.settings, notes)
    changes += _speeds(before.speed, after.speed, notes)
    if not changes:
        raise UserError(f"{files[0]} and {files[1]} cannot be compared: {' '.join(notes) or 'one of them measured nothing'}")
    worse = significant([change.loss for change in changes])
    better = significant([change.gain for change in changes])
    for table in _tables(changes, worse, better):
        console.print(table)
    for note in dict.fromkeys(notes + lost):
        console.print(note, style="yellow", markup=False)
    verdict = f"{files[0]} -> {files[1]}: {sum(worse)} of {len(changes)} lines significantly worse, {sum(better)} better."
    console.print(verdict, style="red" if any(worse) else None)
    return 1 if any(worse) or lost else 0


def significant(p_values: Sequence[float]) -> list[bool]:
    """Holm's step-down test (Scandinavian Journal of Statistics 6, 1979): which of several one-sided tests reject at ALPHA."""
    order, found = np.argsort(p_values, kind="stable"), [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > ALPHA / (len(p_values) - rank):
            break
        found[i] = True
    return found


def change(title: str, figure: str, benchmark: str, groups: Sequence[Units], statistic: Statistic) -> Change:
    """Compares one figure. `groups` are the paired units by benchmark: what the first file has, then as many sums of the
    second."""
    both = lambda sums: map(statistic, np.split(sums, 2, axis=-1))
    units = sum(map(len, groups))
    before, after = both(resample_groups(grouped(groups), RESAMPLES))
    values = divide(after, before)
    values = values[np.isfinite(values)]
    floor = 0.5**units
    p = lambda hits: max(float((hits.sum() + 1) / (len(values) + 1)), floor) if len(values) else 1.0
    low_high = bounds(values - 1) if units > 1 else None
    first, second = both(np.stack([np.asarray(group, dtype=float).sum(0, keepdims=True) for group in groups]))
    figures = float(first[0]), float(second[0])
    return Change(title, figure, benchmark, units, *figures, low_high, p(values >= 1), p(values <= 1))


def _settings(
    before: Sequence[AcceptanceResult], after: Sequence[AcceptanceResult], notes: list[str]
) -> tuple[list[Change], list[str]]:
    """(changes of the acceptance length, settings whose answers no longer are the target's)."""
    changes, lost = [], []
    for title, a, b in _pairs(before, after, notes):
        groups = {name: units for name, x, y in _common(a, b, notes) if (units := _prompt_pairs(name, x, y, notes))}
        changes += _lines(title, "tau", groups, ratio)
        if _lossless(a) and _lossless(b) is False:
            lost.append(f"{title}: greedy answers were all the target's own before, and are not any more.")
    return changes, lost


def _speeds(before: Sequence[SpeedResult], after: Sequence[SpeedResult], notes: list[str]) -> list[Change]:
    """Changes of the end-to-end speedup."""
    changes = []
    for title, a, b in _pairs([s for s in before if s.draft], [s for s in after if s.draft], notes, "concurrency"):
        groups, bases = {}, [speed.baselines.get("end_to_end", PLAIN) for speed in (a, b)]
        for name, x, y in _common(a, b, notes):
            one, other = (paired_batches(row.batches, base) for row, base in ((x, bases[0]), (y, bases[1])))
            if units := [(*one[key], *other[key]) for key in one.keys() & other.keys()]:
                groups[name] = units
        changes += _lines(title, "speedup", groups, quotient)
    return changes


def _lines(title: str, figure: str, groups: dict[str, Units], statistic: Statistic) -> list[Change]:
    lines = [change(title, figure, name, [units], statistic) for name, units in groups.items()]
    if len(groups) > 1:
        lines.append(change(title, figure, ALL, list(groups.values()), statistic))
    return lines


def _pairs(
    before: Sequence[Compared], after: Sequence[Compared], notes: list[str], *also: str
) -> Iterable[tuple[str, Compared, Compared]]:
    """(title, setting, setting) that draft and sample alike, and are equal in `also`. Drafts may differ where each file has
    one: that is what is compared."""
    names = short_names(s.draft for s in (*before, *after))
    one_each = all(len({s.draft for s in settings}) == 1 for settings in (before, after) if settings)

    def key(s: Compared) -> tuple[Any, ...]:
        draft = None if one_each else s.draft
        return (*s.shape_key, tuple(sorted(s.sampling.items())), s.thinking, draft, *(getattr(s, name) for name in also))

    first, second = ({key(s): s for s in settings} for settings in (before, after))
    for here, there, which in ((first, second, "first"), (second, first, "second")):
        if missing := [_title(names, here[k]) for k in here if k not in there]:
            notes.append(f"Only in the {which} file: {'; '.join(missing)}.")
    for k in first:
        if k in second:
            a, b = first[k], second[k]
            if a.target != b.target:
                notes.append(f"The targets differ ({a.target}, {b.target}): not compared.")
                continue
            yield _title(names, a, b), a, b


def _common(a: Any, b: Any, notes: list[str]) -> Iterable[tuple[str, Any, Any]]:
    """Benchmarks of both, with answers of one length at most."""
    first, second = ({row.name: row for row in s.benchmarks} for s in (a, b))
    if missing := sorted(first.keys() ^ second.keys()):
        notes.append(f"In one of the files only: benchmark {', '.join(missing)}.")
    for name in first:
        if name in second:
            lengths = [getattr(row, "max_new_tokens", None) for row in (first[name], second[name])]
            if lengths[0] != lengths[1]:
                notes.append(f"{name}: max_new_tokens {lengths[0]} and {lengths[1]}: not compared.")
                continue
            yield name, first[name], second[name]


def _prompt_pairs(name: str, a: BenchmarkResult, b: BenchmarkResult, notes: list[str]) -> Units:
    """(tokens, forwards) before and after, of prompts that both files have and that ask the same."""
    first, second = (_by_prompt(row.prompts) for row in (a, b))
    same = [id_ for id_ in first if id_ in second and _questions(first[id_]) == _questions(second[id_])]
    if left := len(first.keys() | second.keys()) - len(same):
        notes.append(f"{name}: {len(same)} prompts compared; {left} are in one file only, or ask something else.")
    return [(*prompt_units(first[id_])[0], *prompt_units(second[id_])[0]) for id_ in same]


def _by_prompt(turns: Iterable[TurnResult]) -> dict[str, list[TurnResult]]:
    found: dict[str, list[TurnResult]] = {}
    for turn in turns:
        found.setdefault(turn.id, []).append(turn)
    return found


def _questions(turns: Iterable[TurnResult]) -> list[tuple[int, str]]:
    return [(turn.turn, turn.question) for turn in turns]


def _title(names: dict[str | None, str], *settings: DecodingSetup) -> str:
    """Of one setting, or of two that differ in their drafts at most."""
    drafts = dict.fromkeys(names[s.draft] or (s.engine or {}).get("model") or "" for s in settings)
    s = settings[0]
    return f"{' -> '.join(drafts)}, {s.num_draft_tokens} draft tokens ({tree_kind(s)}), {sampling_label(s.sampling)}"


def _lossless(setting: AcceptanceResult) -> bool | None:
    totals = setting.totals
    return None if totals.answers is None else totals.equal_to_target_alone == totals.answers


def _tables(changes: Sequence[Change], worse: Sequence[bool], better: Sequence[bool]) -> Iterable[Table]:
    """One for each pair of settings."""
    lines = list(zip(changes, worse, better, strict=True))
    for (title, figure), group in groupby(lines, key=lambda line: (line[0].title, line[0].figure)):
        columns = ("prompts", "before", "after", "change", "95 %", "")
        table = numbers_table(f"{title}: {figure}", "Benchmark", columns)
        for line, is_worse, is_better in group:
            moved = f"{line.after / line.before - 1:+.1%}" if line.before else "-"
            low_high = "[{:+.1%}, {:+.1%}]".format(*line.interval) if line.interval else ""
            verdict, style = ("worse", "red") if is_worse else ("better", "green") if is_better else ("", None)
            figures = (str(line.prompts), f"{line.before:.2f}", f"{line.after:.2f}", moved, low_high)
            table.add_row(line.benchmark, *figures, verdict, style=style)
        yield table
