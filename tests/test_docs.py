"""The commands in docs/published.md name options, configurations, recipes and mixes that exist."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from data_recipes.__main__ import Config
from data_recipes.plan import make_plan
from vlm_eagle.cli import parse
from vlm_eagle.commands import main

ROOT = Path(__file__).parents[1]
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "published.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]


def test_every_founding_system_is_there():
    assert len(COMMANDS) >= 18
    text = "\n".join(COMMANDS)
    for config in (ROOT / "eval" / "configs").glob("*.yaml"):
        assert f"eval/configs/{config.name}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command, monkeypatch, capsys):
    """Parsed by the very program, which then prints its settings instead of running."""
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "data_recipes"]:
        config = parse(Config, "", words[4:])
        assert make_plan(words[3], config.source, config.total, tuple(config.files)).parts
        return
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        start([*words, "--print_config"], monkeypatch)
    assert not ended.value.code, capsys.readouterr().err


def start(words, monkeypatch):
    """In this process: importing everything anew for each command would take a minute and a half."""
    if words[0] == "vlm-eagle":
        monkeypatch.setattr(sys, "argv", words)
        main()
    elif words[:2] == ["python", "-m"]:
        monkeypatch.setattr(sys, "argv", words[2:])
        runpy.run_module(f"{words[2]}.__main__", run_name="__main__")
    else:
        script = next(i for i, word in enumerate(words) if word.endswith(".py"))
        monkeypatch.syspath_prepend(ROOT / Path(words[script]).parent)
        monkeypatch.setattr(sys, "argv", words[script:])
        runpy.run_path(words[script], run_name="__main__")
