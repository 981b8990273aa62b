"""What pyright says of the package, and of an example that uses it (strictly)."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# pyright's Python package fetches node and its npm package when they are missing: not in a test
OFFLINE = {"npm_config_offline": "true", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
OFFLINE |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def pyright() -> list[str]:
    """The command; skips where there is none."""
    if found := os.environ.get("PYRIGHT") or shutil.which("pyright"):
        return [found]
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: pip install -e '.[dev]', or name it in PYRIGHT")
    return [sys.executable, "-m", "pyright"]


@pytest.mark.slow
def test_types():
    command = [*pyright(), "--project", str(ROOT), "--pythonpath", sys.executable, "--outputjson"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **OFFLINE})
    try:
        found = json.loads(ran.stdout)["generalDiagnostics"]
    except (ValueError, KeyError):
        pytest.skip(f"pyright cannot start (make types may fetch what it lacks): {(ran.stderr or ran.stdout)[-300:]}")
    places = [f"{row['file']}:{row.get('range', {}).get('start', {}).get('line', 0) + 1}: {row['message']}" for row in found]
    assert not ran.returncode, "\n".join(places)[-6000:]
