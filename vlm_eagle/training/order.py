"""The order of the data: a pure function of seed and step, so that a resumed run sees what an uninterrupted one would have."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class MicroBatches(Sampler[list[int]]):
    """Index lists for one rank, from optimizer step `start` to `steps`.

    A step takes `accumulation * ranks` micro-batches of `batch_size` rows from the epoch's permutation; the remainder of an
    epoch that does not fill a step is left for other epochs' permutations to reach.
    """

    def __init__(
        self, length: int, *, batch_size: int, accumulation: int, rank: int, ranks: int, seed: int, start: int, steps: int
    ):
        self.length, self.batch_size, self.accumulation = length, min(batch_size, length), accumulation
        self.rank, self.ranks, self.seed, self.start, self.steps = rank, ranks, seed, start, steps

    @staticmethod
    def steps_per_epoch(length: int, batch_size: int, accumulation: int, ranks: int) -> int:
        """Full optimizer steps in one pass, at least 1."""
        return max(length // (batch_size * accumulation * ranks), 1)

    def __len__(self) -> int:
        return max(self.steps - self.start, 0) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self.steps_per_epoch(self.length, self.batch_size, self.accumulation, self.ranks)
        rows_per_step = self.batch_size * self.accumulation * self.ranks
        for step in range(self.start, self.steps):
            epoch, within = divmod(step, per_epoch)
            order = self._permutation(epoch)
            for micro in range(self.accumulation):
                first = within * rows_per_step + (micro * self.ranks + self.rank) * self.batch_size
                yield [order[i % self.length] for i in range(first, first + self.batch_size)]

    def _permutation(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.length, generator=generator).tolist()
        return self._order
