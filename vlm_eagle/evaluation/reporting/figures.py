"""Which charts a report has, and the numbers in them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vlm_eagle.evaluation.reporting.bootstrap import tau_interval
from vlm_eagle.evaluation.reporting.charts import Chart, Point, Series
from vlm_eagle.evaluation.reporting.labels import labels
from vlm_eagle.evaluation.reporting.records import BenchmarkScore, Kind, Results, Score, Setting, Speed
from vlm_eagle.evaluation.scores.breakdowns import stretch_name, stretch_of


def figures(results: Results, names: Sequence[str]) -> list[Chart]:
    """All charts that the results have data for. `names` are those of the settings, in order."""
    charts = [by_benchmark(results.settings, names)]
    charts += [by_position(results.settings, names, conditional) for conditional in (False, True)]
    charts += [over_answer(results.settings, names), tree_size(results.speeds)]
    return [chart for chart in charts if any(point for series in chart.series for point in series.points)]


def benchmark_names(settings: Sequence[Setting]) -> list[str]:
    """Every benchmark once, in the order of its first mention."""
    return list(dict.fromkeys(benchmark.name for setting in settings for benchmark in setting.benchmarks))


def by_benchmark(settings: Sequence[Setting], names: Sequence[str]) -> Chart:
    """Acceptance length of every benchmark with its interval."""
    benchmarks = benchmark_names(settings)
    series = []
    for style, (setting, name) in enumerate(zip(settings, names, strict=True)):
        scores = {benchmark.name: benchmark.score for benchmark in setting.benchmarks}
        series.append(Series(name, tuple(_point(scores.get(benchmark)) for benchmark in benchmarks), style))
    return Chart(
        "by-benchmark", "Acceptance length by benchmark",
        "Tokens committed per target forward; 1 is no gain. Whiskers: 95 % intervals over prompts, where the file has them.",
        tuple(benchmarks), "benchmark", "tokens per forward", tuple(series), form="dots", floor=1.0,
    )  # fmt: skip


def by_position(settings: Sequence[Setting], names: Sequence[str], conditional: bool) -> Chart:
    """How often the i-th proposed token is accepted."""
    rows = [s.totals.conditional if conditional else s.totals.by_position for s in settings]
    depth = max(map(len, rows), default=0)
    series = [
        Series(name, tuple(Point(row[i]) if i < len(row) else None for i in range(depth)), style)
        for style, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    key, title, caption = (
        "by-position",
        "Acceptance by position",
        "Share of forwards in which the i-th proposed token was accepted.",
    )
    if conditional:
        key, title = "by-position-given", "Acceptance by position, given the ones before"
        caption = "Of the forwards that accepted all tokens before: the share that accepted this one."
    return Chart(
        key, title, caption, tuple(str(i + 1) for i in range(depth)),
        "position of the proposed token", "accepted", tuple(series), ceiling=1.0, percent=True,
    )  # fmt: skip


def over_answer(settings: Sequence[Setting], names: Sequence[str]) -> Chart:
    """Acceptance length of the forwards that begin in each part of the answer."""
    binned = [_bins(setting) for setting in settings]
    count = max((len(bins) for bins in binned), default=0)
    series = [
        Series(name, tuple(_bin_point(bins.get(i)) for i in range(count)), style)
        for style, (bins, name) in enumerate(zip(binned, names, strict=True))
    ]
    return Chart(
        "over-answer", "Acceptance length over the answer",
        "Tokens per forward by where in the answer the forward begins: a line that falls says that the draft loses its way in "
        "long answers. Whiskers: 95 % intervals over prompts.",
        tuple(stretch_name(i) for i in range(count)), "token of the answer", "tokens per forward", tuple(series), floor=1.0,
    )  # fmt: skip


def tree_size(speeds: Sequence[Speed]) -> Chart:
    """Predicted and seen speedup by nodes verified per forward: one pair of lines per draft, sampling and concurrency."""
    groups: dict[Kind, list[Speed]] = defaultdict(list)
    for speed in speeds:
        if speed.kind.num_draft_tokens:
            groups[replace(speed.kind, num_draft_tokens=None, topk=None, num_steps=None, fixed=False, shape=None)].append(speed)
    names = labels(list(groups), [rows[0].file for rows in groups.values()]) if len(groups) > 1 else [""]
    sizes = {s.kind.num_draft_tokens or 0 for rows in groups.values() for s in rows}
    sizes |= {f.num_draft_tokens for rows in groups.values() for s in rows for f in s.forecasts}
    axis, series = sorted(sizes), []
    for style, (name, rows) in enumerate(zip(names, groups.values(), strict=False)):
        seen = [(s.kind.num_draft_tokens, s.decode.value, s.decode.interval) for s in rows if s.decode]
        predicted = [(s.kind.num_draft_tokens, s.predicted, None) for s in rows]
        predicted += [(f.num_draft_tokens, f.speedup, None) for s in rows for f in s.forecasts]
        for kind, points, dashed in (("seen", seen, False), ("predicted", predicted, True)):
            best = {n: max((p for p in points if p[0] == n and p[1]), key=lambda p: p[1], default=None) for n in axis}
            line = tuple(best[n] and Point(best[n][1], *(best[n][2] or ())) for n in axis)
            series.append(Series(", ".join(filter(None, (name, kind))), line, 2 * style + dashed, dashed))
    return Chart(
        "tree-size", "Tree size against speedup",
        "Decode speed with the draft over the target alone, in the same run, and what the speed model predicts from the "
        "measured parts of a cycle. The best tree of each size; 1 is no gain.",
        tuple(map(str, axis)), "draft tokens (nodes verified per forward)", "times faster", tuple(series), ceiling=1.0,
    )  # fmt: skip


def _point(score: Score | None) -> Point | None:
    if score is None or not score.forwards:
        return None
    return Point(
        score.acceptance_length, *(score.interval or (None, None)), note=f"{score.tokens:,} tokens, {score.forwards:,} forwards"
    )


Sums = dict[tuple[str, str], list[int]]  # (benchmark, prompt) -> tokens, forwards


def _bins(setting: Setting) -> dict[int, Sums]:
    bins: dict[int, Sums] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for benchmark in setting.benchmarks:
        _add(bins, benchmark)
    return bins


def _add(bins: dict[int, Sums], benchmark: BenchmarkScore) -> None:
    for answer in benchmark.answers:
        before = 1
        for tokens in answer.committed or ():
            sums = bins[stretch_of(before)][benchmark.name, answer.key[1]]
            sums[0] += tokens
            sums[1] += 1
            before += tokens


def _bin_point(sums: Sums | None) -> Point | None:
    if not sums:
        return None
    by_benchmark: dict[str, list[list[int]]] = defaultdict(list)
    for (benchmark, _), unit in sums.items():
        by_benchmark[benchmark].append(unit)
    tokens, forwards = (sum(unit[i] for unit in sums.values()) for i in (0, 1))
    return Point(
        tokens / forwards, *tau_interval(list(by_benchmark.values())), note=f"{forwards:,} forwards, {len(sums):,} prompts"
    )
