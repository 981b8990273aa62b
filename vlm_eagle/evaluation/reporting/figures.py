"""Which charts a report has, and the numbers in them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from vlm_eagle.evaluation.reporting.charts import Chart, Point, Series
from vlm_eagle.evaluation.reporting.inputs import ReportInput
from vlm_eagle.evaluation.reporting.labels import labels
from vlm_eagle.evaluation.result_schema import (
    AcceptanceResult,
    AcceptanceSums,
    DecodingSetup,
    Interval,
    SpeedResult,
    Stretch,
)
from vlm_eagle.evaluation.scores.sums import stretch_name, stretch_of

TREE = ("num_draft_tokens", "num_speculative_tokens", "topk", "num_steps", "paths")

Seen = tuple[int | None, float | None, Interval | None]  # tree size, speedup, interval


def figures(found: ReportInput, names: Sequence[str]) -> list[Chart]:
    """All charts that there are data for. `names` are those of the settings, in order."""
    charts = [by_benchmark(found.settings, names)]
    charts += [by_position(found.settings, names, conditional) for conditional in (False, True)]
    charts += [over_answer(found.settings, names), tree_size(found)]
    return [chart for chart in charts if any(point for series in chart.series for point in series.points)]


def benchmark_names(settings: Sequence[AcceptanceResult]) -> list[str]:
    """Every benchmark once, in the order of its first mention."""
    return list(dict.fromkeys(benchmark.name for setting in settings for benchmark in setting.benchmarks))


def by_benchmark(settings: Sequence[AcceptanceResult], names: Sequence[str]) -> Chart:
    """Acceptance length of every benchmark with its interval."""
    benchmarks, series = benchmark_names(settings), []
    for style, (setting, name) in enumerate(zip(settings, names, strict=True)):
        found = {benchmark.name: benchmark for benchmark in setting.benchmarks}
        series.append(Series(name, tuple(_point(found.get(benchmark)) for benchmark in benchmarks), style))
    return Chart(
        "by-benchmark", "Acceptance length by benchmark",
        "Tokens committed per target forward; 1 is no gain. Whiskers: 95 % intervals over prompts, where the file has them.",
        tuple(benchmarks), "benchmark", "tokens per forward", tuple(series), form="dots", floor=1.0,
    )  # fmt: skip


def by_position(settings: Sequence[AcceptanceResult], names: Sequence[str], conditional: bool) -> Chart:
    """How often the i-th proposed token is accepted."""
    rows = [s.totals.conditional if conditional else s.totals.by_position for s in settings]
    depth = max(map(len, rows), default=0)
    series = [
        Series(name, tuple(Point(row[i]) if i < len(row) else None for i in range(depth)), style)
        for style, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    key, title = "by-position", "Acceptance by position"
    caption = "Share of forwards in which the i-th proposed token was accepted."
    if conditional:
        key, title = "by-position-given", "Acceptance by position, given the ones before"
        caption = "Of the forwards that accepted all tokens before: the share that accepted this one."
    return Chart(
        key, title, caption, tuple(str(i + 1) for i in range(depth)),
        "position of the proposed token", "accepted", tuple(series), ceiling=1.0, percent=True,
    )  # fmt: skip


def over_answer(settings: Sequence[AcceptanceResult], names: Sequence[str]) -> Chart:
    """Acceptance length of the forwards that begin in each part of the answer."""
    found = [{stretch_of(stretch.start): stretch for stretch in s.breakdowns.answer_position} for s in settings]
    count = max((number + 1 for stretches in found for number in stretches), default=0)
    series = [
        Series(name, tuple(_point(stretches.get(i)) for i in range(count)), style)
        for style, (stretches, name) in enumerate(zip(found, names, strict=True))
    ]
    return Chart(
        "over-answer", "Acceptance length over the answer",
        "Tokens per forward by where in the answer the forward begins: a line that falls says that the draft loses its way in "
        "long answers. Whiskers: 95 % intervals over prompts.",
        tuple(stretch_name(i) for i in range(count)), "token of the answer", "tokens per forward", tuple(series), floor=1.0,
    )  # fmt: skip


def tree_size(found: ReportInput) -> Chart:
    """Predicted and seen speedup by nodes verified per forward: one pair of lines per draft, sampling and concurrency."""
    groups: dict[Any, list[SpeedResult]] = defaultdict(list)
    files = {}
    for speed, file in zip(found.speeds, found.speed_files, strict=True):
        if speed.num_draft_tokens:
            key = (_without_tree(speed).key, speed.concurrency)
            groups[key].append(speed)
            files.setdefault(key, file)
    names = labels([_without_tree(rows[0]) for rows in groups.values()], list(files.values())) if len(groups) > 1 else [""]
    sizes = {speed.num_draft_tokens or 0 for rows in groups.values() for speed in rows}
    axis = sorted(sizes | {f.num_draft_tokens for rows in groups.values() for speed in rows for f in speed.forecasts})
    series = []
    for number, (name, rows) in enumerate(zip(names, groups.values(), strict=False)):
        seen: list[Seen] = [(s.num_draft_tokens, s.decode_speedup, s.decode_interval) for s in rows]
        predicted: list[Seen] = [(s.num_draft_tokens, s.speed_model and s.speed_model.predicted_speedup, None) for s in rows]
        predicted += [(f.num_draft_tokens, f.speedup, None) for s in rows for f in s.forecasts]
        for kind, points, dashed in (("seen", seen, False), ("predicted", predicted, True)):
            best = [max((p for p in points if p[0] == n and p[1]), key=lambda p: p[1] or 0.0, default=None) for n in axis]
            line = tuple(point and Point(point[1] or 0.0, *(point[2] or (None, None))) for point in best)
            series.append(Series(", ".join(filter(None, (name, kind))), line, 2 * number + dashed, dashed))
    return Chart(
        "tree-size", "Tree size against speedup",
        "Decode speed with the draft over the target alone, in the same run, and what the speed model predicts from the "
        "measured parts of a cycle. The best tree of each size; 1 is no gain.",
        tuple(map(str, axis)), "draft tokens (nodes verified per forward)", "times faster", tuple(series), ceiling=1.0,
    )  # fmt: skip


def _without_tree(setup: DecodingSetup) -> DecodingSetup:
    return DecodingSetup(**{f.name: getattr(setup, f.name) for f in fields(DecodingSetup) if f.name not in TREE})


def _point(sums: AcceptanceSums | None) -> Point | None:
    if sums is None or not sums.forwards:
        return None
    note = f"{sums.tokens:,} tokens, {sums.forwards:,} forwards"
    if isinstance(sums, Stretch):
        note = f"{sums.forwards:,} forwards, {sums.prompts:,} prompts"
    return Point(sums.acceptance_length, *(sums.interval or ()), note=note)
