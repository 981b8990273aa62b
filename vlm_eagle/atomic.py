"""Files that are either whole or absent, also after a kill or a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, with its suffix; the block's end moves what was written there to `file`.

    Folders are made as needed. If the block raises, `file` stays as it was and nothing is left beside it. A device such as
    /dev/stdout is written directly.

        with atomic_path(out) as scratch:
            scratch.write_text("...")

    Raises:
        OSError: the place cannot be written.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        yield file
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        yield scratch
        _sync(scratch)
        scratch.replace(file)
        with suppress(OSError):  # some file systems cannot sync a folder
            _sync(file.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
