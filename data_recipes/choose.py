"""Which conversations are kept, and which of them are held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_recipes.duplicates import first_copies, near_copies
from data_recipes.row_buffer import RowBuffer


@dataclass(frozen=True)
class Choice:
    """The verdict on N spooled rows.

    Attributes:
        kept: (N,) bool.
        held_out: (N,) bool, among the kept ones.
        copy_of: (N,) int64, the row that a duplicate repeats; -1 for rows that repeat none.
        near: (N,) bool, whether a duplicate is one in substance only.
        surplus: (N,) bool, rows that were drawn in reserve and not needed.
    """

    kept: np.ndarray
    held_out: np.ndarray
    copy_of: np.ndarray
    near: np.ndarray
    surplus: np.ndarray


def choose(
    buffer: RowBuffer, signatures: np.ndarray, totals: Sequence[int | None], held_out: float, similarity: float
) -> Choice:
    """Drops duplicates, first the exact ones, then down to the totals by the order of the draw, and splits.

    Args:
        buffer: the rows.
        signatures: (N, 128) uint16.
        totals: per part, how many conversations to keep.
        held_out: share of conversations to hold out, 0 to 1.
        similarity: from which estimated similarity on two texts count as duplicates; above 1, only exact ones do.
    """
    alive, parts = buffer.alive, buffer.parts
    # in the order of the draw, so that which of two duplicates stays does not depend on the source's order
    ranked = np.lexsort((buffer.draw_keys, parts))
    ranked = ranked[alive[ranked]]
    copy_of, near = _copies(ranked, buffer.digests, signatures, similarity)
    surplus = np.zeros(len(buffer), dtype=bool)
    for number, total in enumerate(totals):
        mine = ranked[(parts[ranked] == number) & (copy_of[ranked] < 0)]
        if total is None or len(mine) <= total:
            continue
        surplus[mine[total:]] = True
        later = ranked[parts[ranked] > number]
        if np.isin(copy_of[later], mine[total:]).any():  # a row that was drawn in reserve and is not needed ousts none
            kept = ranked[(parts[ranked] <= number) & (copy_of[ranked] < 0) & ~surplus[ranked]]
            anew = _copies(np.concatenate([kept, later]), buffer.digests, signatures, similarity)
            copy_of[later], near[later] = anew[0][later], anew[1][later]
    kept = alive & (copy_of < 0) & ~surplus
    return Choice(kept, kept & is_held_out(buffer.split_keys, held_out), copy_of, near, surplus)


def _copies(rows: np.ndarray, digests: np.ndarray, signatures: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """`copy_of` and `near` as in `Choice`, among `rows` in this order."""
    copy_of, near = np.full(len(digests), -1, dtype=np.int64), np.zeros(len(digests), dtype=bool)
    first = rows[first_copies(digests[rows])] if len(rows) else rows
    copy_of[rows] = np.where(first == rows, -1, first)
    if similarity <= 1:
        rows = rows[copy_of[rows] < 0]
        found = near_copies(signatures[rows], similarity)
        near[rows] = found >= 0
        copy_of[rows[found >= 0]] = rows[found[found >= 0]]
    return copy_of, near


def is_held_out(split_keys: np.ndarray, share: float) -> np.ndarray:
    """Which conversations are held out: a larger share holds out the same ones and more, whatever the mix and its seed."""
    return split_keys.astype(np.float64) < share * 2.0**64
