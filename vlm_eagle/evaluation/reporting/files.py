"""The report's files: whole or absent, and an error the user can read."""

from pathlib import Path

from vlm_eagle import provenance
from vlm_eagle.errors import UserError


def write_bytes(file: Path, data: bytes) -> None:
    """Writes beside the place and moves there.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        provenance.write_bytes(file, data)
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror}.") from error
