"""A fair draw of so many rows out of a stream of unknown length, in one pass, the same for the same rows in any order."""

import hashlib
import heapq


def key_of(digest: bytes, seed: int) -> int:
    """A row's place in the draw: 64 bits that depend on its content and the seed alone."""
    return int.from_bytes(hashlib.blake2b(digest, key=seed.to_bytes(8, "big", signed=True), digest_size=8).digest(), "big")


class Draw:
    """Keeps the `total` rows with the smallest keys; all of them if `total` is None.

    A row that comes late is told at once whether it has a chance, so that its pictures are stored only then: out of M rows
    about total * (1 + ln(M / total)) are.
    """

    def __init__(self, total: int | None):
        self.total = total
        self._kept: list[tuple[int, int]] = []  # a heap of (-key, number): the largest key on top
        self._keys: set[int] = set()

    def holds(self, key: int) -> bool:
        """Whether a row with this very key is drawn; never, if all are."""
        return key in self._keys

    def would_keep(self, key: int) -> bool:
        """Whether a row with this key is among the smallest so far."""
        return self.total is None or len(self._kept) < self.total or (self.total > 0 and key < -self._kept[0][0])

    def keep(self, key: int, number: int) -> int | None:
        """Takes a row that `would_keep`; the number of the row that must give way, if any."""
        if self.total is None:
            return None
        self._keys.add(key)
        if len(self._kept) < self.total:
            heapq.heappush(self._kept, (-key, number))
            return None
        largest, gone = heapq.heappushpop(self._kept, (-key, number))
        self._keys.discard(-largest)
        return gone
