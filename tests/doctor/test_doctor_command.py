"""`vlm-eagle doctor`, as a user and as CI meet it."""

import json
from dataclasses import asdict

import pytest
from by_heart import PROMPTS, train_by_heart

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import doctor
from vlm_eagle.config import DataConfig, TrainConfig
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.doctor import prompts
from vlm_eagle.interop.run_files import read_beside, settings_of
from vlm_eagle.provenance import write_json
from vlm_eagle.target.load import load_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    train_by_heart(load_target("demo", dtype="float32", layer_ids=(3, 4, 5))).save_pretrained(folder / "draft")
    write_jsonl(folder / "prompts.jsonl", PROMPTS)
    return folder


def examine(folder, *words):
    words = ("--draft", str(folder / "draft"), "--max-new-tokens", "48", "--json", str(folder / "report.json"), *words)
    return run_cli(doctor.main, doctor.Config, doctor.__doc__, argv=words)


@pytest.mark.slow
def test_exit_codes_and_report(folder, capsys):
    bad = folder / "bad.jsonl"
    bad.write_text("{\n")
    assert examine(folder, "--prompts", str(folder / "prompts.jsonl"), str(bad)) == 0
    shown = capsys.readouterr().out
    assert "No problems found." in shown
    assert "Skipped prompts: 1 bad JSON." in shown
    report = json.loads((folder / "report.json").read_text())
    assert (report["problems_found"], report["findings"], report["diagnosis"]) == (False, [], [])
    assert report["skipped"] == {"bad JSON": 1}
    assert len(report["as_written"]["by_position"]) == 7

    file = folder / "draft" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"norm_before_residual": True, "tie_word_embeddings": True}))
    assert examine(folder, "--prompts", str(folder / "prompts.jsonl")) == 1
    assert "Diagnosis: norm-before-residual" in " ".join(capsys.readouterr().out.split())
    assert {f["code"] for f in json.loads((folder / "report.json").read_text())["findings"]} == {
        "norm-before-residual", "tie-word-embeddings",
    }  # fmt: skip
    assert examine(folder, "--static") == 1
    file.write_text(json.dumps(config))
    assert examine(folder, "--static") == 0

    capsys.readouterr()
    for words, said in (
        (("--prompts", str(bad)), "None of 1 prompts can be used (1 bad JSON)"),
        (("--limit", "0"), "at least 1"),
    ):
        assert examine(folder, *words) == 2
        assert said in capsys.readouterr().err
    assert examine(folder, "--draft", str(folder / "nothing")) == 2
    assert examine(folder, "--prompts", str(folder / "nothing.jsonl")) == 2
    assert "error: " in capsys.readouterr().err


def test_prompts_come_from_the_held_out_data_of_the_training_run(tmp_path):
    """The settings are those that training writes into run.json, so a renamed field shows here."""
    write_jsonl(tmp_path / "eval.jsonl", PROMPTS)
    data = DataConfig(train=["gone.jsonl"], eval=[str(tmp_path / "eval.jsonl"), "gone.jsonl"])
    write_json(tmp_path / "run.json", {"config": asdict(TrainConfig(data=data))})
    training = settings_of(read_beside(str(tmp_path / "draft"), "run.json"))
    assert prompts.held_out_files(training) == [tmp_path / "eval.jsonl"]
    rows = prompts.read_rows(prompts.held_out_files(training))
    chosen, skipped = prompts.choose_prompts(rows, 2, text_only=False)
    assert [prompt.id for prompt in chosen] == [PROMPTS[0].id, PROMPTS[len(PROMPTS) // 2].id]
    assert not skipped
