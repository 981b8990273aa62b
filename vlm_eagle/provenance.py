"""Where results may go, `run.json` beside them, and files that are either whole or absent."""

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
from vlm_eagle.errors import UserError

_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "qwen-vl-utils")


def write_json(file: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one."""
    write_bytes(file, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def write_bytes(file: Path, data: bytes) -> None:
    """Writes atomically; directly into a device such as /dev/stdout."""
    with atomic_path(file) as scratch:
        scratch.write_bytes(data)


def check_output(path: str | Path, *, folder: bool = False) -> None:
    """Refuses a file (or a folder) that cannot be written, before the work whose result goes there. Writes nothing.

    Raises:
        UserError: a file is where a folder is wanted, or the other way round, or the right to write is missing.
    """
    path = Path(path).absolute()
    if path.is_file() if folder else path.is_dir():
        found, wanted = ("file", "directory") if folder else ("directory", "file")
        raise UserError(f"{path} is a {found}; expected a {wanted} path. Give another path.")
    existing = next(place for place in (path, *path.parents) if place.exists())
    above = existing.parent if existing == path and not folder else existing
    if not above.is_dir():
        raise UserError(f"{path} cannot be written: {above} is a file. Give another path.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: you have no write permission in {above}. Give another path.")


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
