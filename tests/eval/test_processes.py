"""Two processes score what one scores, and what a kill leaves is used by whoever goes on."""

import json
import re
import sys
from pathlib import Path

import evaluations
import pytest
from evaluations import figures

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from interference import HeldAfter
from processes import Script
from waiting import wait_for

from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl

pytestmark = pytest.mark.multi_process

TASKS = ("arithmetic", "code", "describe")


@pytest.fixture(scope="module")
def folder(target, tmp_path_factory):
    folder = evaluations.save_pair(target, tmp_path_factory.mktemp("pair"))
    write_jsonl(folder / "prompts.jsonl", [mix.sample(task, i) for i in range(8) for task in TASKS])
    return folder


def start(folder, file, ranks=1, script="acc_length", *options, before=None):
    argv = ["--target", folder / "target", "--draft", folder / "draft", "--benchmarks", folder / "prompts.jsonl"]
    place = ["--json", file] if script == "acc_length" else ["--output-dir", file.parent]
    sampling = ["--samplings", "sampled", "--trees", "3,2,6", "--max-new-tokens", "16"]
    return Script(f"../eval/{script}.py", [*argv, *place, *sampling, *options], file.with_suffix(".txt"), ranks, before)


@pytest.fixture(scope="module")
def whole(folder):
    """Scored by one process in one go."""
    start(folder, folder / "whole.json").finish()
    return json.loads((folder / "whole.json").read_text())


def test_two_processes_score_what_one_does(folder, whole, tmp_path):
    said = start(folder, tmp_path / "two.json", 2).finish()
    two = json.loads((tmp_path / "two.json").read_text())
    assert figures(two) == figures(whole)
    assert two["settings"][0]["totals"] == whole["settings"][0]["totals"]
    assert [r["id"] for r in two["settings"][0]["benchmarks"][0]["prompts"]] == [f"{t}-{i}" for i in range(8) for t in TASKS]
    assert said.count("Written to") == 1
    assert not list(tmp_path.glob("*journal*"))


def test_a_killed_evaluation_goes_on_with_another_number_of_processes(folder, whole, tmp_path):
    run = start(folder, tmp_path / "out.json", 2, before=HeldAfter(3))
    wait_for("three prompts of each process", lambda: len(finished(tmp_path)) == 6, run)
    run.kill()
    kept = finished(tmp_path)
    assert len(list(tmp_path.glob("out.journal.*"))) == 2
    assert not (tmp_path / "out.json").exists()
    said = start(folder, tmp_path / "out.json", 1).finish()
    assert int(re.search(r"Going on: (\d+) of 24 prompts", said)[1]) == len(kept) == 6
    assert figures(json.loads((tmp_path / "out.json").read_text())) == figures(whole)
    assert not list(tmp_path.glob("*journal*"))


def test_two_processes_time_all_prompts_once(folder, whole, tmp_path):
    options = ("--question-end", "6", "--baselines", "[]", "--seed", "0")
    start(folder, tmp_path / "speedup.json", 2, "speedup", *options).finish()
    timed = json.loads((tmp_path / "speedup.json").read_text())
    (found,), (expected,) = figures(timed), figures(whole)
    assert len(found) == 6
    assert all(expected[key] == row for key, row in found.items())
    assert timed["speed"][0]["methods"]["target alone"]["answers"] == 6
    assert timed["speed"][0]["speed_model"]["predicted_speedup"] > 0


def finished(folder):
    """Keys of whole lines in all journals."""
    lines = [line for file in folder.glob("*.journal.*") for line in file.read_text().split("\n")[:-1] if line]
    return {json.loads(line)["key"] for line in lines}
