"""Converted rows on disk while a recipe is built, with a few numbers per row in memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.conversion import content_digest, split_key

# Where a row's line begins, a hash of its content, its places in the split and in the draw, and its part of the mix
COLUMNS = np.dtype(
    [("offset", "<i8"), ("digest", "<u8"), ("split_key", "<u8"), ("draw_key", "<u8"), ("part", "<u2"), ("alive", "?")]
)


class RowBuffer:
    """Rows as JSON lines in the order they came, 35 bytes of memory each."""

    def __init__(self, file: Path):
        self.file = file
        self._stream = file.open("w+b")
        self._columns = bytearray()

    def __len__(self) -> int:
        return len(self._columns) // COLUMNS.itemsize

    def add(self, row: dict[str, Any], part: int, draw_key: int) -> int:
        """Takes a row of part number `part` of a mix; returns its number."""
        values = (self._stream.tell(), content_digest(row), split_key(row), draw_key, part, True)
        self._columns += np.array([values], COLUMNS).tobytes()
        self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return len(self) - 1

    def discard(self, number: int) -> None:
        """Marks a row as not drawn after all; its line stays."""
        self.columns()["alive"][number] = False

    def columns(self) -> np.ndarray:
        """(N,) of `COLUMNS`. No row can be added while this is in use."""
        return np.frombuffer(self._columns, COLUMNS)

    def flush(self) -> None:
        """Lets other readers of the file see all rows."""
        self._stream.flush()

    def line(self, number: int) -> bytes:
        """A row as JSON, without the end of its line."""
        self._stream.seek(self.columns()["offset"][number])
        return self._stream.readline()[:-1]

    def row(self, number: int) -> dict[str, Any]:
        """A row."""
        return json.loads(self.line(number))

    def close(self) -> None:
        """Deletes the file."""
        self._stream.close()
        self.file.unlink()
