"""Files that are either whole or absent."""

import os
from pathlib import Path

from vlm_eagle.errors import UserError


def write_bytes(file: Path, data: bytes) -> None:
    """Writes beside the place and moves there.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_bytes(data)
        scratch.replace(file)
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror}.") from error
