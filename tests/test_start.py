"""Help is there at once: no command imports what its work needs before it knows what to do. Modules count here, not seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

from vlm_eagle.commands import COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "transformers", "accelerate", "datasets", "av", "scipy", "matplotlib", "huggingface_hub"}
OURS = ("-c", "import sys; from vlm_eagle.commands import main; sys.exit(main())")
SCRIPTS = [file for room in ("scripts", "scripts/dev", "eval") for file in sorted((ROOT / room).glob("*.py"))]
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
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip()
    imported = {module.split(".")[0] for module in re.findall(r"^import time:.*\| +([\w.]+)$", ran.stderr, re.MULTILINE)}
    assert {"vlm_eagle", "argparse"} <= imported
    assert not imported & HEAVY


def test_every_program_was_found():
    assert {"scripts/train_vlm.py", "eval/acc_length.py", "vlm-eagle chat", "python -m data_recipes.regenerate"} <= set(
        PROGRAMS
    )
    assert len(PROGRAMS) > 25
