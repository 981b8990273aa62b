"""Which rows are drawn, which conversations are kept, and which of those are held out: by their content and the seed alone."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_recipes.duplicates import first_copies, near_copies


def draw_key(digest: bytes, seed: int) -> int:
    """A row's place in the draw: 64 bits that depend on its content and the seed."""
    return int.from_bytes(hashlib.blake2b(digest, key=seed.to_bytes(8, "big", signed=True), digest_size=8).digest(), "big")


class BottomK:
    """A fair draw in one pass: the `total` rows with the smallest keys; all of them if `total` is None.

    A row that comes late is told at once whether it has a chance, so that its pictures are stored only then: out of M rows
    about total * (1 + ln(M / total)) are.
    """

    def __init__(self, total: int | None):
        self.total = total
        self._kept: list[tuple[int, int]] = []  # a heap of (-key, number): the largest key on top
        self._keys: set[int] = set()

    def holds(self, key: int) -> bool:
        """Whether a row with this very key is drawn; never if all are."""
        return key in self._keys

    def would_keep(self, key: int) -> bool:
        """Whether a row with this key is among the smallest so far."""
        return self.total is None or len(self._kept) < self.total or (self.total > 0 and key < -self._kept[0][0])

    def keep(self, key: int, number: int) -> int | None:
        """Takes a row that `would_keep`; returns the number of the row that must give way, if any."""
        if self.total is None:
            return None
        self._keys.add(key)
        if len(self._kept) < self.total:
            heapq.heappush(self._kept, (-key, number))
            return None
        largest, replaced = heapq.heappushpop(self._kept, (-key, number))
        self._keys.discard(-largest)
        return replaced


@dataclass(frozen=True)
class Choice:
    """The verdict on N rows.

    Attributes:
        kept: (N,) bool.
        held_out: (N,) bool, among the kept ones.
        copy_of: (N,) int64, the row that a duplicate repeats; -1 for rows that repeat none.
        near: (N,) bool, whether a duplicate is only a near one.
        surplus: (N,) bool, rows that were drawn in reserve and not needed.
    """

    kept: np.ndarray
    held_out: np.ndarray
    copy_of: np.ndarray
    near: np.ndarray
    surplus: np.ndarray


def choose(
    rows: np.ndarray, signatures: np.ndarray, totals: Sequence[int | None], held_out: float, similarity: float
) -> Choice:
    """Drops duplicates, reduces each part to its total in the order of the draw, and splits.

    Args:
        rows: (N,) columns of a RowBuffer.
        signatures: (N, 128) uint16.
        totals: per part, how many conversations to keep.
        held_out: share of conversations to hold out, 0 to 1.
        similarity: two texts of at least this estimated similarity count as duplicates; above 1, only exact ones do.
    """
    parts, digests = rows["part"], rows["digest"]
    # in the order of the draw, so that which of two duplicates stays does not depend on the source's order
    ranked = np.lexsort((rows["draw_key"], parts))
    ranked = ranked[rows["alive"][ranked]]
    copy_of, near = _copies(ranked, digests, signatures, similarity)
    surplus = np.zeros(len(rows), dtype=bool)
    for number, total in enumerate(totals):
        mine = ranked[(parts[ranked] == number) & (copy_of[ranked] < 0)]
        if total is None or len(mine) <= total:
            continue
        surplus[mine[total:]] = True
        later = ranked[parts[ranked] > number]
        if np.isin(copy_of[later], mine[total:]).any():  # a row that is not needed must not displace one of a later part
            kept = ranked[(parts[ranked] <= number) & (copy_of[ranked] < 0) & ~surplus[ranked]]
            again = _copies(np.concatenate([kept, later]), digests, signatures, similarity)
            copy_of[later], near[later] = again[0][later], again[1][later]
    kept = rows["alive"] & (copy_of < 0) & ~surplus
    return Choice(kept, kept & is_held_out(rows["split_key"], held_out), copy_of, near, surplus)


def is_held_out(split_keys: np.ndarray, share: float) -> np.ndarray:
    """Which conversations are held out: a larger share holds out the same ones and more, whatever the mix and its seed."""
    return split_keys.astype(np.float64) < share * 2.0**64


def _copies(rows: np.ndarray, digests: np.ndarray, signatures: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """`copy_of` and `near` as in `Choice`, among the row numbers `rows` in this order."""
    copy_of, near = np.full(len(digests), -1, dtype=np.int64), np.zeros(len(digests), dtype=bool)
    first = rows[first_copies(digests[rows])] if len(rows) else rows
    copy_of[rows] = np.where(first == rows, -1, first)
    if similarity <= 1:
        rows = rows[copy_of[rows] < 0]
        found = near_copies(signatures[rows], similarity)
        near[rows] = found >= 0
        copy_of[rows[found >= 0]] = rows[found[found >= 0]]
    return copy_of, near
