"""Checkpoints of a run: one file each, whole or absent, enough to go on exactly where the run stopped."""

import re
from pathlib import Path
from typing import Any

import torch

_NAME = re.compile(r"step-(\d+)\.pt")


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Writes `step-N.pt` atomically and removes all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    file, scratch = folder / f"step-{step}.pt", folder / "writing.tmp"
    torch.save(state, scratch)
    scratch.replace(file)
    for old in _all(folder)[:-keep]:
        old.unlink()
    return file


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint's state on the CPU, or None. Only tensors and plain values are unpickled."""
    files = _all(folder)
    return torch.load(files[-1], map_location="cpu", weights_only=True) if files else None


def _all(folder: Path) -> list[Path]:
    found = [file for file in folder.glob("step-*.pt") if _NAME.fullmatch(file.name)]
    return sorted(found, key=lambda file: int(_NAME.fullmatch(file.name)[1]))
