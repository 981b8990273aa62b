"""What the documents name exists: commands with their options, configurations, recipes, files."""

import ast
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data_recipes.mix import make_mix
from vlm_eagle.cli import parse
from vlm_eagle.commands import main
from vlm_eagle.commands.data import Config

ROOT = Path(__file__).parents[1]
ROOMS = ("vlm_eagle", "data_recipes", "eval", "scripts")
DOCUMENTS = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
STARTS = ("python ", "accelerate ", "vlm-eagle ", "scripts/")
COMMANDS = [
    line
    for name, text in DOCUMENTS.items()
    if name != "README.md"  # test_readme.py runs those
    for block in re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith(STARTS)
]
FOREIGN = {  # options of other programs, and those that are no settings
    *("config", "help"),
    *("config_file", "num_processes", "mixed_precision", "cpu"),  # accelerate
    *("model-path", "speculative-config", "speculative-algorithm", "speculative-draft-model-path", "speculative-num-steps"),
    *("speculative-eagle-topk", "speculative-num-draft-tokens", "allowed-local-media-path", "mm-processor-kwargs"),
    *("base-model-path", "eagle-model-path", "model-id", "bench-name", "max-new-token", "num-gpus-total", "num-gpus-per-model"),
    *("preset", "hypothesis-profile"),
}


def test_every_founding_system_is_there():
    assert len(COMMANDS) >= 40
    for config in (ROOT / "eval" / "configs").glob("*.yaml"):
        assert f"eval/configs/{config.name}" in DOCUMENTS["published.md"]


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_command_is_understood(command, monkeypatch, capsys):
    """Parsed by the very program, which then prints its settings instead of running."""
    words = shlex.split(command, comments=True)
    if words[:3] == ["python", "-m", "data_recipes"]:
        config = parse(Config, "", words[4:])
        assert make_mix(words[3], config.source, config.total, tuple(config.files)).parts
        return
    if words[0].endswith(".sh"):
        shown = subprocess.run(["bash", ROOT / words[0], "--print", *words[1:]], capture_output=True, text=True, check=False)
        assert not shown.returncode, shown.stderr
        return
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        start([*words, "--print_config"], monkeypatch)
    assert not ended.value.code, capsys.readouterr().err


def start(words, monkeypatch):
    """In this process: importing everything anew for each command would take a minute and a half."""
    if words[0] == "vlm-eagle":
        monkeypatch.setattr(sys, "argv", words)
        sys.exit(main())
    elif words[:2] == ["python", "-m"]:
        monkeypatch.setattr(sys, "argv", words[2:])
        runpy.run_module(f"{words[2]}.__main__", run_name="__main__")
    else:
        script = next(i for i, word in enumerate(words) if word.endswith(".py"))
        monkeypatch.syspath_prepend(ROOT / Path(words[script]).parent)
        monkeypatch.setattr(sys, "argv", words[script:])
        runpy.run_path(words[script], run_name="__main__")


def settings() -> set[str]:
    """Names of the fields of all classes, among them every option of every program."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    classes = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)]
    return {line.target.id for node in classes for line in node.body if isinstance(line, ast.AnnAssign)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_in_the_text_exist(name):
    mentioned = set(re.findall(r"(?<![\w-])--([a-z][\w.-]*\w)", DOCUMENTS[name])) - FOREIGN
    parts = {part.replace("-", "_") for option in mentioned for part in option.split(".")}
    assert parts <= settings()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_in_the_text_exist(name):
    """Paths from the root or from vlm_eagle/; a name alone may lie anywhere. What runs write is not asked for."""
    mentioned = re.findall(r"`((?:[\w-]+/)*[\w.-]+\.(?:py|yaml|md|jinja)|(?:[\w-]+/){2,}|scripts/\w+\.sh)`", DOCUMENTS[name])
    ours = [path for path in mentioned if not path.startswith(("out/", "outputs/"))]
    assert not [path for path in ours if not exists(path)]


def exists(path: str) -> bool:
    if "/" in path:
        return (ROOT / path).exists() or (ROOT / "vlm_eagle" / path).exists()
    return (ROOT / path).exists() or any(
        next((ROOT / room).rglob(path), None) for room in ("vlm_eagle", "data_recipes", "eval", "scripts", "tests", "docs")
    )
