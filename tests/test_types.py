"""What pyright says of the package, and of an example that uses it (strictly)."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pyright() -> list[str]:
    """The command; skips where there is none."""
    if found := os.environ.get("PYRIGHT") or shutil.which("pyright"):
        return [found]
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: pip install -e '.[dev]', or name it in PYRIGHT")
    return [sys.executable, "-m", "pyright"]


@pytest.mark.slow
def test_types():
    command = [*pyright(), "--project", str(ROOT), "--pythonpath", sys.executable]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode not in (0, 1):
        pytest.skip(f"pyright cannot start here, where its npm package is not to be had: {ran.stderr[-300:]}")
    assert ran.returncode == 0, ran.stdout[-6000:]
