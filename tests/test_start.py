"""Help is there at once: no command imports what its work needs before it knows what to do. Modules count here, not seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

from vlm_eagle.commands import COMMANDS

pytestmark = pytest.mark.multi_process

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "transformers", "accelerate", "datasets", "av", "scipy", "matplotlib", "huggingface_hub"}
OURS = ("-c", "import sys; from vlm_eagle.commands import main; sys.exit(main())")
SCRIPTS = [
    file
    for room in ("scripts", "scripts/dev", "eval")
    for file in sorted((ROOT / room).glob("*.py"))
    if "__main__" in file.read_text()  # else a part of one
]
PACKAGES = [
    file.relative_to(ROOT).parent.parts
    for room in ("data_recipes", "vlm_eagle")
    for file in sorted((ROOT / room).rglob("__main__.py"))
]
PROGRAMS = {
    **{str(file.relative_to(ROOT)): (file,) for file in SCRIPTS},
    **{f"python -m {'.'.join(parts)}": ("-m", ".".join(parts)) for parts in PACKAGES},
    "python -m data_recipes NAME": ("-m", "data_recipes", "sharegpt"),
    "vlm-eagle": OURS,
    **{f"vlm-eagle {name}": (*OURS, name) for name in COMMANDS},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_imports_nothing_heavy(name, tmp_path):
    command = (sys.executable, "-X", "importtime", *PROGRAMS[name], "--help")
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip()
    imported = {module.split(".")[0] for module in re.findall(r"^import time:.*\| +([\w.]+)$", ran.stderr, re.MULTILINE)}
    assert {"vlm_eagle", "argparse"} <= imported
    assert not imported & HEAVY


def test_every_program_was_found():
    some = {"scripts/train_vlm.py", "eval/acc_length.py", "scripts/dev/overhead.py", "python -m data_recipes.regenerate"}
    assert some <= set(PROGRAMS)
    assert {path.stem.rstrip("_").replace("_", "-") for path in (ROOT / "vlm_eagle" / "commands").glob("[!_]*.py")} == {
        *COMMANDS, "options",
    }  # fmt: skip
    assert len(PROGRAMS) > 40


LAUNCHERS = [file for file in SCRIPTS if "from vlm_eagle.commands import run" in file.read_text()]


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: file.name)
def test_a_launcher_is_short_and_keeps_its_name(file):
    assert len(file.read_text().splitlines()) <= 10
    shown = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, timeout=LIMIT, env=environment())
    assert shown.stdout.startswith(f"usage: {file.name} ")


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "vlm_eagle"), "python -m vlm_eagle COMMAND"), (("-m", "vlm_eagle", "train"), "python -m vlm_eagle train"),
        (OURS, "vlm-eagle COMMAND"), ((*OURS, "score"), "vlm-eagle score"),
        ((*OURS, "data", "sharegpt"), "vlm-eagle data sharegpt"),
        (("-m", "data_recipes", "my/mix.yaml"), "python -m data_recipes my/mix.yaml"),
        (("-m", "data_recipes.regenerate"), "python -m data_recipes.regenerate"),
    ],
)  # fmt: skip
def test_help_calls_a_program_as_the_user_did(words, said):
    command = [sys.executable, *words, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment())
    assert shown.stdout.startswith(f"usage: {said} [options]")
