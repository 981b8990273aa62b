"""The report's figures and tables against counts made here token by token."""

import json
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from report_results import invent, results, setting, speed, write

from vlm_eagle.evaluation.reporting import svg
from vlm_eagle.evaluation.reporting.charts import Chart, Point, Series
from vlm_eagle.evaluation.reporting.figures import by_benchmark, by_position, figures, over_answer, tree_size
from vlm_eagle.evaluation.reporting.inputs import read_inputs
from vlm_eagle.evaluation.reporting.misses import misses
from vlm_eagle.evaluation.reporting.page import _breakdowns


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    file = invent(tmp_path_factory.mktemp("made"), prompts=40)
    return read_inputs([file]), json.loads(file.read_text())


def rows_of(setting):
    return [(benchmark["name"], row) for benchmark in setting["benchmarks"] for row in benchmark["prompts"]]


def written_by(row):
    """Of every token of an answer its forward (0 is the prefill) and whether the draft proposed it, one token after another."""
    marks = [(0, False)]
    for forward, (tokens, kept) in enumerate(zip(row["committed"], row["accepted"], strict=True), 1):
        marks += [(forward, i < kept) for i in range(tokens)]
    return marks


def test_by_position_is_the_share_of_forwards_that_accepted_it(made):
    found, raw = made
    for conditional in (False, True):
        chart = by_position(found.settings, ["a", "b"], conditional)
        for series, column in zip(chart.series, raw["settings"], strict=True):
            forwards = [kept for _, row in rows_of(column) for kept in row["accepted"]]
            for i in range(column["num_steps"]):
                due = [kept for kept in forwards if not conditional or kept >= i]
                assert series.points[i].value == pytest.approx(sum(kept > i for kept in due) / len(due))
        assert len(chart.categories) == 7
        assert chart.series[0].points[3:] == (None,) * 4  # a chain of 4 has no fourth proposal


def test_over_the_answer(made):
    found, raw = made
    chart = over_answer(found.settings, ["a", "b"])
    for series, column in zip(chart.series, raw["settings"], strict=True):
        tokens, forwards = Counter(), Counter()
        for _, row in rows_of(column):
            first_of = {}
            for number, (forward, _) in enumerate(written_by(row), 1):
                first_of.setdefault(forward, number)
            for forward, count in enumerate(row["committed"], 1):
                number = first_of[forward]
                (name,) = [c for c in chart.categories if int(c.split("-")[0]) <= number <= int(c.split("-")[1])]
                tokens[name] += count
                forwards[name] += 1
        assert {c for c, p in zip(chart.categories, series.points, strict=True) if p} == set(forwards)
        for name, point in zip(chart.categories, series.points, strict=True):
            if point:
                assert point.value == pytest.approx(tokens[name] / forwards[name])
                assert point.low is None or point.low <= point.value <= point.high
    assert chart.categories[:4] == ("2-16", "17-32", "33-64", "65-128")


def test_by_benchmark_shows_the_files_numbers(made):
    found, raw = made
    chart = by_benchmark(found.settings, ["a", "b"])
    for series, column in zip(chart.series, raw["settings"], strict=True):
        for name, point in zip(chart.categories, series.points, strict=True):
            rows = [row for benchmark, row in rows_of(column) if benchmark == name]
            tau = sum(len(row["output_token_ids"]) - 1 for row in rows) / sum(len(row["committed"]) for row in rows)
            assert point.value == pytest.approx(tau)
            assert (point.low, point.high) == (pytest.approx(tau - 0.2), pytest.approx(tau + 0.2))


def test_breakdowns_are_sums_over_sums(made):
    found, raw = made
    by = _breakdowns(found.settings)
    assert {title: set(kinds) for title, kinds in by.items()} == {"modality": {"image", "text"}, "language": {"en", "zh"}}
    for title, kinds in by.items():
        for kind, columns in kinds.items():
            for sums, column in zip(columns, raw["settings"], strict=True):
                mine = [r for _, r in rows_of(column) if r[title] == kind]
                tokens, forwards = sum(sum(r["committed"]) for r in mine), sum(len(r["committed"]) for r in mine)
                assert (sums.prompts, sums.tokens, sums.forwards) == (len(mine), tokens, forwards)
                assert sums.acceptance_length == pytest.approx(tokens / forwards)
                assert sums.interval[0] <= sums.acceptance_length <= sums.interval[1]


def test_misses_are_tokens_the_draft_failed_to_propose(made):
    found, raw = made
    column = raw["settings"][1]
    missed, accepted, contexts = Counter(), Counter(), defaultdict(set)
    for _, row in rows_of(column):
        marks, pieces = written_by(row), row["pieces"]
        for at, (forward, drafted) in enumerate(marks):
            if forward and drafted:
                accepted[pieces[at]] += 1
            elif forward and row["accepted"][forward - 1] < column["num_steps"]:
                missed[pieces[at]] += 1
                contexts[pieces[at]].add("".join(pieces[max(at - 5, 0) : at]))
    found_misses = misses(found.settings[1], most=1000)
    assert {m.piece: m.missed for m in found_misses} == missed
    for miss in found_misses:
        assert miss.share == pytest.approx(miss.missed / (miss.missed + accepted[miss.piece]))
        assert miss.before in contexts[miss.piece]
    assert sum(missed.values()) < sum(not d for _, r in rows_of(column) for f, d in written_by(r) if f)  # full paths are none
    assert misses(found.settings[1], most=3) == found_misses[:3]


def test_tree_size_takes_the_best_tree_of_each_size(tmp_path):
    rows = [speed(4, 1.5), speed(8, 2.0), {**speed(8, 1.7), "topk": 4, "num_steps": 3}]
    about = {"num_draft_tokens": 16, "topk": 1, "num_steps": 15, "acceptance_length": 4.0, "seconds": 1.0}
    rows[0]["forecasts"] = [{**about, "speedup": 1.9}, {**about, "speedup": 2.6}]
    chart = tree_size(read_inputs([write(tmp_path / "s.json", results([], rows))]))
    assert chart.categories == ("4", "8", "16")
    seen, predicted = ({c: p and p.value for c, p in zip(chart.categories, s.points, strict=True)} for s in chart.series)
    assert seen == {"4": 1.5, "8": 2.0, "16": None}
    assert predicted == {"4": 1.75, "8": 2.25, "16": 2.6}
    assert [s.name for s in chart.series] == ["seen", "predicted"]
    assert chart.series[0].points[0].low == pytest.approx(1.4)


def test_tree_size_keeps_drafts_and_concurrency_apart(tmp_path):
    rows = [speed(4, 1.5), {**speed(4, 1.2), "concurrency": 4}, {**speed(4, 2.0), "draft": "drafts/two"}]
    chart = tree_size(read_inputs([write(tmp_path / "s.json", results([], rows))]))
    assert [s.name for s in chart.series][::2] == ["one, 1 at a time, seen", "one, 4 at a time, seen", "two, 1 at a time, seen"]
    assert [s.points[0].value for s in chart.series[::2]] == [1.5, 1.2, 2.0]


def test_charts_without_data_are_left_out(tmp_path):
    empty = results([], [speed(4, 1.5)])
    assert [c.key for c in figures(read_inputs([write(tmp_path / "s.json", empty)]), [])] == ["tree-size"]
    none = {"output_token_ids": [1], "pieces": ["a"], "committed": [], "accepted": [], "num_forwards": 0, "num_committed": 0}
    none |= {"id": "x", "question": "", "images": [], "language": "en", "modality": "text", "turn": 0}
    file = write(tmp_path / "none.json", results([setting({"one": [none]}, 3)]))
    assert figures(read_inputs([file]), ["a"]) == []  # one token, no verification


def some_chart(form="lines", low=None):
    series = [Series(name, tuple(Point(v, low) for v in (1.0, 2.0, 3.0)), style) for style, name in enumerate("ab")]
    return Chart("k", "t", "c", ("x", "y", "z"), "x", "y", tuple(series), form=form)


def test_bands_lie_below_the_grid():
    drawn = [element.get("class") for element in svg._dots(some_chart("dots"))]
    assert drawn.count("band") == 2
    assert drawn[:3] == ["band", "band", "grid"]


def test_lines_stand_aside_for_whiskers_only():
    begin = lambda found: {path.get("d").split()[0] for path in svg._lines(found) if path.get("class", "").startswith("line")}
    assert len(begin(some_chart())) == 1
    assert len(begin(some_chart(low=0.5))) == 2


@pytest.mark.parametrize(
    ("values", "floor", "ceiling"),
    [
        ([1.0], 1, 0), ([3.7, 1.2], 1, 0), ([0.0, 1.0], 0, 1), ([0.3], 0, 1), ([1e-4], 0, 0), ([0.0], 0, 0),
        ([1e6, 2.0], 1, 0), ([0.4], 1, 0),
    ],
)  # fmt: skip
def test_ticks_cover_everything_in_round_steps(values, floor, ceiling):
    series = Series("s", tuple(Point(v, v * 0.9, v * 1.1) for v in values))
    ticks = Chart("k", "t", "c", ("x",) * len(values), "x", "y", (series,), floor=floor, ceiling=ceiling).ticks()
    assert 2 <= len(ticks) <= 10
    assert ticks[0] <= min([floor, *(0.9 * v for v in values)])
    assert ticks[-1] >= max([ceiling, floor, *(1.1 * v for v in values)]) * (1 - 1e-9)
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1
    mantissa = float(f"{steps.pop():e}".split("e")[0])
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5)) < 1e-6
