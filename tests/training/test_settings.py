"""Settings follow the target: the demo's for the demo, the library's for any other, and what the user gives always wins."""

import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from accelerate import Accelerator
from model_configs import MODELS
from runs import configure, trainer_for
from transformers import AutoConfig
from waiting import LIMIT

from data_recipes import demo
from vlm_eagle.commands import COMMANDS
from vlm_eagle.commands.train import option
from vlm_eagle.config import DEMO_TARGET, DataConfig, TrainCommand, TrainConfig
from vlm_eagle.errors import UserError
from vlm_eagle.training.ready import SHAPES, find_ready, ready_line

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "scripts" / "configs"
DEMO_YAML = str(CONFIGS / "demo.yaml")
OF_THE_DEMO, OF_THE_LIBRARY = (512, 512, 2.25, "float32"), (32_000, 2048, 3.0, "auto")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A copy of the demo target, which is another target."""
    return str(shutil.copytree(DEMO_TARGET, tmp_path_factory.mktemp("targets") / "mine"))


def script(name, *argv, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400", **environment}
    command = [sys.executable, str(ROOT / "scripts" / name), *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.multi_process
@pytest.mark.parametrize("name", ["train_vlm.py", "capture_features.py"])
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], OF_THE_DEMO),
        (["--llm-only"], OF_THE_DEMO),
        (["--target", "demo", "--epochs", "1"], (512, 512, 1.0, "float32")),
        ([f"--target={DEMO_TARGET}"], OF_THE_DEMO),
        (["--target", "OTHER"], OF_THE_LIBRARY),
        (["--target=OTHER", "--draft.vocab-size", "300"], (300, 2048, 3.0, "auto")),
        (["--config", DEMO_YAML, "--target", "OTHER"], OF_THE_DEMO),
        (["--config", str(CONFIGS / "qwen3_vl_2b.yaml")], (32_000, 4096, 3.0, "bfloat16")),
    ],
    ids=lambda value: " ".join(Path(word).name for word in value) if isinstance(value, list) else None,
)
def test_settings_of_a_command_line(name, argv, expected, other):
    shown = script(name, *(word.replace("OTHER", other) for word in argv), "--print_config")
    assert shown.returncode == 0, shown.stderr
    found = yaml.safe_load(shown.stdout)
    assert (found["draft"]["vocab_size"], found["data"]["max_length"], found["epochs"], found["target_dtype"]) == expected


def test_data_and_folder_of_a_run(other, tmp_path):
    for target in ("demo", str(DEMO_TARGET)):
        command = TrainCommand(target=target)
        assert (command.out, command.data.train, command.data.eval) == ("outputs/demo", ["demo"], ["demo"])
    assert TrainConfig(data=DataConfig(eval=[])).data.eval == []
    command = TrainCommand(target=other)
    assert (command.out, command.data.train, command.data.eval) == ("outputs/mine", None, None)
    assert TrainConfig(target="Qwen/Qwen3-8B").out == "outputs/Qwen3-8B"
    assert TrainConfig(target=str(tmp_path / "models" / "demo")).out == "outputs/models-demo", "not where the demo lies"
    assert TrainConfig(target=other, out="outputs/demo").out == "outputs/demo"


def test_another_target_needs_data_but_may_name_the_demos(monkeypatch, other, tmp_path):
    with pytest.raises(UserError, match=r"Give --data\.train"):
        demo.resolve(TrainConfig(target=other).data, Accelerator(cpu=True), None)
    monkeypatch.setattr(demo, "make", lambda **_: tmp_path)
    data = TrainConfig(target=other, data=DataConfig(train=["demo"])).data
    demo.resolve(data, Accelerator(cpu=True), None)
    assert (data.train, data.eval) == ([str(tmp_path / "train.jsonl")], [])


def test_a_missing_file_shows_before_the_demo_target_answers_for_minutes(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "make", lambda **_: pytest.fail("the demo's data was made first"))
    data = TrainConfig(data=DataConfig(train=[str(tmp_path / "missing.json")])).data
    with pytest.raises(UserError, match="no such data file"):
        demo.resolve(data, Accelerator(cpu=True), None)


def test_shapes_are_those_of_the_ready_configs():
    files = {yaml.safe_load(file.read_text())["target"]: file for file in CONFIGS.glob("qwen*.yaml")}
    assert set(SHAPES) == set(files)
    for name, file in files.items():
        assert find_ready(CONFIGS, AutoConfig.for_model(**MODELS[name][0])) == (file, name)
    assert find_ready(CONFIGS, AutoConfig.from_pretrained(DEMO_TARGET)) is None


@pytest.mark.multi_process
def test_ready_settings_are_named_unless_they_are_used(tmp_path):
    """A fine-tune in a folder of any name is known by its shape."""
    config = MODELS["Qwen/Qwen3-VL-2B-Instruct"][0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    argv = ("--dry-run", "--memory-gib", "1000", "--target", str(tmp_path))
    lines = script("train_vlm.py", *argv).stdout.splitlines()
    assert "--config qwen3_vl_2b" in lines[0]
    assert "Draft vocabulary 32,000, max_length 2,048, 3 epochs, target in bfloat16" in lines[2]
    assert "Training needs --data.train" in lines[2]
    used = str(CONFIGS / "qwen3_vl_2b.yaml")
    for name in (used, str(ROOT / "scripts" / "configs" / "qwen3_vl_2b.yaml"), "qwen3_vl_2b"):
        assert "ready settings" not in script("train_vlm.py", "--config", name, *argv).stdout
    config = AutoConfig.for_model(**config)
    assert ready_line(CONFIGS, config, used) is None
    assert "qwen3_vl_2b" in ready_line(CONFIGS, config, str(tmp_path / "mine.yaml"))


def test_the_settings_that_decide_are_said(data, tmp_path):
    config = configure(data, tmp_path / "out", max_steps=4, epochs=3)
    config.data.max_length = 40
    config.data.eval = []
    trainer = trainer_for(config)
    said = trainer.setup.summary(trainer.steps, trainer.all_steps, config.epochs)
    cut = sum(length == 40 for length in trainer.setup.lengths)
    dropped = trainer.setup.lengths.count(0)
    assert cut
    assert dropped
    assert f"Draft vocabulary 300 covers {trainer.setup.coverage:.1%} of answer tokens" in said
    assert f"max_length 40 cut {cut} and dropped {dropped} of 12 rows" in said
    assert f"4 steps of {trainer.all_steps}, by max_steps, in 3 epochs" in said
    assert "target in float32" in said
    assert "No --data.eval" in said


def programs():
    """The options of every command that takes a target and a draft, found by looking."""
    modules = [import_module(f"vlm_eagle.commands.{name.replace('-', '_')}{'_' * (name == 'import')}") for name in COMMANDS]
    scripts = [file for room in ("scripts", "scripts/dev", "eval") for file in sorted((ROOT / room).glob("*.py"))]
    found = [*map(vars, modules), *(runpy.run_path(str(file)) for file in scripts if "__main__" in file.read_text())]
    values = [value for names in found for value in names.values() if isinstance(value, type)]
    kinds = {kind for kind in values if dataclasses.is_dataclass(kind) and not issubclass(kind, TrainConfig)}
    fields = {kind: {field.name: field for field in dataclasses.fields(kind)} for kind in kinds}
    both = [(kind, names) for kind, names in fields.items() if {"target", "draft"} <= set(names)]
    return [(kind, names) for kind, names in both if names["draft"].default is not None]  # None: the target alone


def test_no_command_takes_the_demos_draft_for_another_target(other):
    found = programs()
    assert len(found) >= 10
    some = {"python": sys.executable, "out": "x", "vllm_python": "x"}
    for kind, names in found:
        needed = {name: value for name, value in some.items() if name in names}
        listed = names["draft"].type == list[str]
        as_given = lambda draft, listed=listed: [draft] if listed else draft
        assert kind(target="demo", **needed).draft == as_given("outputs/demo/draft")
        assert kind(target=other, draft=as_given("mine"), **needed).draft == as_given("mine")
        with pytest.raises(UserError, match="No draft is named"):
            kind(target=other, **needed)


@pytest.mark.parametrize(
    ("line", "value"),
    [("--target a", "a"), ("--target a --target=b c", "b"), ("--targets a", None), ("--target", "")],
)
def test_an_option_before_it_is_parsed(line, value):
    assert option(line.split(), "target") == value
