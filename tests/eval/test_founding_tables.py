"""The command of each founding document runs on small copies of its benchmarks, and prints the document's columns."""

import json
from pathlib import Path

import pytest
import yaml
from benchmark_files import write
from conftest import make_imitating_draft

from vlm_eagle.cli import parse, run_cli
from vlm_eagle.commands import score, speedup
from vlm_eagle.evaluation.timing import timing_round as speed_runs
from vlm_eagle.target.load import load_target

CONFIGS = Path(__file__).parents[2] / "eval" / "configs"
SCRIPTS = {score: score.Config, speedup: speedup.Config}
SPEED = ("eagle3-qwen3-8b-zh", "angelslim-eagle3")


def script_of(name):
    return speedup if name in SPEED else score


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drafts")
    demo = load_target("demo", dtype="float32")
    for name in ("ours", "theirs"):
        make_imitating_draft(demo).save_pretrained(folder / name)
    return [str(folder / "ours"), str(folder / "theirs")]


@pytest.fixture
def produce(tmp_path, monkeypatch, capsys):
    """Runs a document's command on copies of its benchmarks; (what it printed, the JSON)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(speed_runs, "CYCLES", 2)

    def run(name, drafts, *options):
        script, file = script_of(name), CONFIGS / f"{name}.yaml"
        names = yaml.safe_load(file.read_text())["benchmarks"]
        copies = [f"{benchmark}={write(benchmark, tmp_path / benchmark)}" for benchmark in names]
        small = ["--target", "demo", "--dtype", "float32", "--max-new-tokens", "4", "--draft", *drafts, "--benchmarks", *copies]
        small += ["--limit", "2"] if script is score else ["--question-end", "1"]
        assert run_cli(script.main, SCRIPTS[script], "", argv=["--config", str(file), *small, *options]) == 0
        out = parse(SCRIPTS[script], "", ["--config", str(file)])
        written = Path(out.json) if script is score else Path(out.output_dir) / "speedup.json"
        return capsys.readouterr().out, json.loads(written.read_text()), names

    return run


def lines_with(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_every_config_is_tested():
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == {
        "eagle3-qwen3-8b-zh", "angelslim-eagle3", "qwen3-vl-2b-instruct-eagle3", "qwen3-4b-instruct-2507-eagle3",
        "specjax-qwen3-8b-eagle3",
    }  # fmt: skip


def test_the_documents_commands_are_in_the_docs():
    docs = (CONFIGS.parents[1] / "docs" / "evaluation.md").read_text()
    for file in CONFIGS.glob("*.yaml"):
        command = f"python eval/{'speedup' if file.stem in SPEED else 'acc_length'}.py --config eval/configs/{file.name}"
        assert f"`{command}`" in docs
        assert f"#   {command}" in file.read_text(), "the config's own comment"


@pytest.mark.slow
def test_speedup_and_tau_by_benchmark_temperatures_and_models_in_rows(produce, drafts):
    said, result, names = produce("eagle3-qwen3-8b-zh", drafts)
    for shape in ("num_steps 5, topk 4, num_draft_tokens 16", "num_steps 6, topk 10, num_draft_tokens 32"):
        table = said[said.index(f"tau by benchmark: {shape}, concurrency 4") :].split("└")[0]
        head = lines_with(table, "Temperature", "Model")[0]
        assert head.count("Speedup") == head.count("τ") == len(names) + 1
        assert lines_with(table, *names)
        for label in ("T=0 ", "T=1 ", "T=0.6 "):
            for draft in ("ours", "theirs"):
                (line,) = lines_with(table, f"│ {label}", draft)
                assert line.count("x │") == len(names) + 1
    kinds = {(s["draft"], s["num_draft_tokens"], s["sampling"]["temperature"]) for s in result["settings"]}
    assert len(kinds) == len(result["settings"]) == len(result["speed"]) == 12
    qwen3 = next(s["sampling"] for s in result["settings"] if s["sampling"]["temperature"] == 0.6)
    assert qwen3 == {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
    for setting, speed in zip(result["settings"], result["speed"], strict=True):
        assert setting["concurrency"] == speed["concurrency"] == 4
        for counted, timed in zip(setting["benchmarks"], speed["benchmarks"], strict=True):
            assert counted["acceptance_length"] == timed["acceptance_length"]
        turns = {row["turn"] for b in setting["benchmarks"] if b["name"].startswith("mt") for row in b["prompts"]}
        assert turns == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns"), [("qwen3-vl-2b-instruct-eagle3", (4, 8)), ("qwen3-4b-instruct-2507-eagle3", (4,))]
)
def test_acceptance_length_by_benchmark_and_draft_tokens(produce, drafts, name, columns):
    said, result, names = produce(name, drafts[:1])
    assert lines_with(said, *(f"num_draft_tokens={n}" for n in columns))
    for row in [*names, "Average"]:
        cells = lines_with(said, f"│ {row} ")[0].split("│")[2:-1]
        assert len(cells) == len(columns)
        assert all(float(cell.split()[0]) >= 1 for cell in cells)
    assert [setting["num_draft_tokens"] for setting in result["settings"]] == list(columns)


def test_acceptance_rate_by_position(produce, drafts):
    said, result, _ = produce("specjax-qwen3-8b-eagle3", drafts[:1])
    assert lines_with(said, "Position")
    for i in range(7):
        assert lines_with(said, f"│ acc_{i} ", "%")
    assert "acc_7" not in said
    assert len(result["settings"][0]["totals"]["conditional"]) == 7


@pytest.mark.slow
def test_throughput_with_and_without(produce, drafts):
    said, result, names = produce("angelslim-eagle3", drafts[:1])
    assert lines_with(said, "target alone")
    assert lines_with(said, "with the draft")
    (speed,) = result["speed"]
    assert (speed["num_draft_tokens"], speed["num_steps"], speed["topk"]) == (60, 6, 10)
    assert speed["sampling"]["temperature"] == 1.0
    assert [row["name"] for row in speed["benchmarks"]] == names
    assert all(row["methods"][m]["end_to_end_tokens_per_second"] > 0 for row in speed["benchmarks"] for m in row["methods"])
