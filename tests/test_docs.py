"""The commands in docs/published.md name options, configurations, recipes and mixes that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data_recipes.__main__ import Config
from data_recipes.plan import make_plan
from vlm_eagle.cli import parse

ROOT = Path(__file__).parents[1]
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "published.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]
ENTRY = "import sys; from vlm_eagle.commands import main; sys.exit(main())"


def test_every_founding_system_is_there():
    assert len(COMMANDS) >= 18
    text = "\n".join(COMMANDS)
    for config in (ROOT / "eval" / "configs").glob("*.yaml"):
        assert f"eval/configs/{config.name}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command):
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "data_recipes"]:
        config = parse(Config, "", words[4:])
        assert make_plan(words[3], config.source, config.total, tuple(config.files)).parts
        return
    if words[0] == "vlm-eagle":
        words = [sys.executable, "-c", ENTRY, *words[1:]]
    elif words[0] == "accelerate":
        words = [sys.executable, *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    else:
        words[0] = sys.executable
    done = subprocess.run([*words, "--print_config"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
