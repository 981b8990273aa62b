"""Tables name drafts as briefly as they can, alike everywhere, and lose nothing of what they hold."""

import io
import sys
from pathlib import Path

import pytest

from vlm_eagle.evaluation.reporting.labels import labels
from vlm_eagle.evaluation.result_schema import (
    AcceptanceResult,
    BenchmarkResult,
    BenchmarkSpeed,
    MethodSpeed,
    SpeedResult,
    Totals,
)
from vlm_eagle.evaluation.scores.acceptance_tables import acceptance_table, numbers_table, results_console
from vlm_eagle.evaluation.scores.names import DRAFTED, PLAIN, short_names
from vlm_eagle.evaluation.timing.speed_tables import founding_table, speed_table


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["outputs/demo/draft"], ["demo/draft"]),
        (["outputs/one", "outputs/two"], ["one", "two"]),
        (["x/run/draft", "y/run/draft"], ["x/run/draft", "y/run/draft"]),
        (["o/x/run/draft", "o/y/run/draft", "o/z"], ["x/run/draft", "y/run/draft", "z"]),
        (["a/x/run", "b/x/run", "b/y/run"], ["a/x/run", "b/x/run", "y/run"]),
        (["run", "a/run", "b/a/run"], ["run", "a/run", "b/a/run"]),
        (["me/eagle", "/srv/eagle"], ["me/eagle", "srv/eagle"]),
        (["a/run", "/a/run"], ["a/run", "/a/run"]),
        (["a/run/", "./a/run"], ["run", "run"]),  # one folder
        (["draft", "a/draft"], ["draft", "a/draft"]),
    ],
)
def test_no_more_parts_than_tell_them_apart(names, short):
    found = short_names(names)
    assert [found[name] for name in names] == short
    assert short_names([None, *names]) == {**found, None: ""}


SAMPLING = {"temperature": 0.0}
HEAD = {"num_draft_tokens": 4, "topk": 1, "num_steps": 3, "sampling": SAMPLING, "target": "t", "concurrency": 1}
DRAFTS = ("x/run/draft", "y/run/draft")


def shown(*tables, width=200):
    console = results_console()
    console.file, console.width = io.StringIO(), width
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def setting(draft, benchmark="b"):
    sums = {"acceptance_length": 3.25, "interval": (3.125, 3.5), "tokens": 13, "forwards": 4}
    sums |= {"by_position": [], "conditional": []}
    benchmarks = [BenchmarkResult(**sums, name=benchmark, max_new_tokens=9, prompts=[])]
    return AcceptanceResult(**HEAD, draft=draft, average_acceptance_length=3.25, totals=Totals(**sums), benchmarks=benchmarks)


def speed(draft):
    method = MethodSpeed(
        tokens=9, answers=1, decode_seconds=1.0, end_to_end_seconds=1.0, decode_tokens_per_second=20.0,
        end_to_end_tokens_per_second=10.0, acceptance_length=2.0, first_token_seconds=0.1,
    )  # fmt: skip
    row = {"acceptance_length": 2.0, "speedup": 1.75}
    benchmarks = [BenchmarkSpeed(**row, name=name) for name in ("mt-bench-zh", "mt-bench", "ceval-104", "gsm8k-100")]
    return SpeedResult(
        **HEAD, **row, draft=draft, shape="chain", methods={PLAIN: method, DRAFTED: method},
        baselines={"decode": PLAIN, "end_to_end": PLAIN}, benchmarks=benchmarks,
    )  # fmt: skip


def test_all_tables_and_the_report_name_drafts_alike():
    settings, speeds = [setting(draft) for draft in DRAFTS], [speed(draft) for draft in DRAFTS]
    for table in (acceptance_table(settings), founding_table(speeds)):
        assert all(draft in shown(table) for draft in DRAFTS)
    assert "Speed: y/run/draft, chain, T=0, concurrency 1" in shown(speed_table(speeds[1], short_names(DRAFTS)[DRAFTS[1]]))
    assert labels(settings, [Path("f")] * 2) == [f"{draft}, chain of 4 (vLLM: 3)" for draft in DRAFTS]


@pytest.mark.parametrize("width", [20, 60, 80])
def test_a_narrow_terminal_cuts_no_number_off(width):
    said = shown(
        numbers_table("t", "row", ["num_draft_tokens=16"] * 3), founding_table([speed(d) for d in DRAFTS]), width=width
    )
    assert "…" not in said
    if width == 80:
        assert shown(founding_table([speed("d")]), width=120).count("1.75x") == 5


def test_a_file_gets_whole_lines(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    results_console().print(founding_table([speed(draft) for draft in DRAFTS]))
    assert sys.stdout.getvalue().count("1.75x") == 10
    monkeypatch.setenv("COLUMNS", "50")
    assert results_console().width == 50


def test_brackets_in_names_are_no_markup():
    said = shown(acceptance_table([setting("d", "[red]prompts[/x]")]))
    assert "[red]prompts[/x]" in said
    assert "3.25 [3.12, 3.50]" in said


def test_one_token_answers_have_no_speed():
    row = speed("d")
    for method in row.methods.values():
        method.decode_tokens_per_second = 0.0
    said = shown(speed_table(row, "d"))
    assert "1.00x" in said
    assert " - " in said
