"""Checkpoints of a run: one file each, whole or absent, enough to go on exactly where the run stopped."""

import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vlm_eagle.errors import UserError

_NAME = re.compile(r"step-(\d+)\.pt")
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError)


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Writes `step-N.pt` atomically and removes all but the newest `keep`, and those of later steps: they are of a run that
    this one replaces.

    Raises:
        UserError: the file cannot be written; the checkpoints before it stay.
    """
    file, scratch = folder / f"step-{step}.pt", folder / "writing.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())  # a power cut must not leave the name without the content
        scratch.replace(file)
    except (OSError, RuntimeError) as error:
        scratch.unlink(missing_ok=True)
        reason = error.__context__ or error  # torch's own error hides that the disk is full
        raise UserError(f"Cannot write {file}: {reason}. Free some space; the same command goes on from before.") from error
    upto = [old for old in _all(folder) if _step(old) <= step]
    for old in {*_all(folder)} - {*upto[-keep:]}:
        old.unlink()
    return file


def latest(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any] | None:
    """The newest readable checkpoint's state on the CPU, or None when there is no file. `say` is told of every file that is
    passed over. Only tensors and plain values are unpickled.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    files = _all(folder)
    for file in reversed(files):
        try:
            return _read(file)
        except _UNREADABLE as error:
            say(f"{file} cannot be read, so the one before it is tried: {error}")
    if files:
        raise UserError(f"No checkpoint in {folder} can be read. Give --resume false to train anew.")
    return None


def differences(was: str, now: str) -> list[str]:
    """What two identities of runs (JSON: settings, hash of the data, number of processes) differ in, in the user's words."""
    (old, *old_rest), (new, *new_rest) = json.loads(was), json.loads(now)
    old, new = _flat(old), _flat(new)
    found = [f"{name} {old.get(name)}, now {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)]
    rest = zip(("other training data", "another number of processes"), old_rest, new_rest, strict=True)
    return found + [name for name, a, b in rest if a != b]


def sweep(out: Path) -> None:
    """Removes from a run's folder what a killed process had begun to write."""
    patterns = ("checkpoints/writing.tmp", "draft/.writing-*", ".run.json.*", ".log.jsonl.tmp")
    for left in [path for pattern in patterns for path in out.glob(pattern)]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names, as the command line has them."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def _read(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:  # torch.load does not compare checksums
        broken = archive.testzip()
    if broken:
        raise zipfile.BadZipFile(f"{broken} does not match its checksum")
    return torch.load(file, map_location="cpu", weights_only=True)


def _all(folder: Path) -> list[Path]:
    return sorted((file for file in folder.glob("step-*.pt") if _NAME.fullmatch(file.name)), key=_step)


def _step(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    assert match is not None
    return int(match[1])
