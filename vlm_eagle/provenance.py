"""What a run leaves beside its output: `run.json`, and files that are either whole or absent."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vlm_eagle.atomic import atomic_path

_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "qwen-vl-utils")


def write_json(file: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one."""
    write_bytes(file, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def write_bytes(file: Path, data: bytes) -> None:
    """Writes atomically; directly into a device such as /dev/stdout."""
    with atomic_path(file) as scratch:
        scratch.write_bytes(data)


def sha256(files: Iterable[Path]) -> str:
    """One digest over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest() if sys.version_info >= (3, 11) else stream.read())
    return digest.hexdigest()


def describe_run(**more: Any) -> dict[str, Any]:
    """Command, versions, commit, machine and time of this process, with whatever the caller adds."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "machine": {"cpu_count": os.cpu_count(), "platform": platform.platform(terse=True)},
        **more,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
