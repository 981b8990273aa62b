"""Converted rows on disk while a recipe is made, with a few numbers per row in memory."""

import json
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_recipes.conversion import Converted


class RowBuffer:
    """Rows as JSON lines in the order they came, 34 bytes of memory each. A row can be let go again; its line stays."""

    def __init__(self, file: Path):
        self.file = file
        self._stream: BinaryIO = file.open("wb")
        self._offsets, self._digests, self._split_keys, self._draw_keys = array("q", [0]), array("Q"), array("Q"), array("Q")
        self._parts, self._alive = array("H"), bytearray()

    def __len__(self) -> int:
        return len(self._alive)

    def add(self, converted: Converted, part: int, draw_key: int) -> int:
        """Takes the row of part number `part` of a mix; returns its number."""
        line = json.dumps(converted.row, ensure_ascii=False).encode() + b"\n"
        self._stream.write(line)
        self._offsets.append(self._offsets[-1] + len(line))
        self._digests.append(converted.digest)
        self._split_keys.append(converted.split_key)
        self._draw_keys.append(draw_key)
        self._parts.append(part)
        self._alive.append(1)
        return len(self) - 1

    def let_go(self, number: int) -> None:
        """Marks a row as not drawn after all."""
        self._alive[number] = 0

    def close(self) -> None:
        """Flushes the file; no row can be added afterwards."""
        self._stream.close()

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64: row i is at [offsets[i], offsets[i + 1])."""
        return np.array(self._offsets)

    @property
    def digests(self) -> np.ndarray:
        """(N,) uint64."""
        return np.array(self._digests)

    @property
    def split_keys(self) -> np.ndarray:
        """(N,) uint64."""
        return np.array(self._split_keys)

    @property
    def draw_keys(self) -> np.ndarray:
        """(N,) uint64."""
        return np.array(self._draw_keys)

    @property
    def parts(self) -> np.ndarray:
        """(N,) uint16, which part of the mix a row belongs to."""
        return np.array(self._parts)

    @property
    def alive(self) -> np.ndarray:
        """(N,) bool."""
        return np.frombuffer(self._alive, dtype=np.uint8).astype(bool)
