"""The order of the data: a pure function of seed and step, so that a resumed run sees what an uninterrupted one would have."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch.utils.data import Sampler

WINDOW = 64  # micro-batches' worth of neighbours in the permutation that are sorted by length together


class Order:
    """Cuts every epoch's permutation of the rows into optimizer steps of `gradient_accumulation_steps * ranks` micro-batches.

    A micro-batch holds `batch_size` rows or, with `max_tokens`, as many rows of similar length as fit when padded. What does
    not fill a step at an epoch's end is left for other epochs' permutations to reach.
    """

    def __init__(
        self, rows: int, *, batch_size: int, gradient_accumulation_steps: int, ranks: int, seed: int,
        max_tokens: int | None = None, lengths: Sequence[int] | None = None,
    ):  # fmt: skip
        """`lengths`, tokens of every row, are needed with `max_tokens`."""
        self.rows, self.batch_size, self.seed = rows, min(batch_size, rows), seed
        self.per_step = gradient_accumulation_steps * ranks
        self.max_tokens, self.lengths = max_tokens, lengths
        self.counts: dict[int, int] = {}  # epoch -> its steps
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, number: int) -> list[list[list[int]]]:
        """Steps, each a list of micro-batches, each a list of rows. At least one step: rows are repeated if there are too
        few."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(self.rows, generator=generator).tolist()
        if self.max_tokens is None:
            whole = max(self.rows // (self.batch_size * self.per_step), 1) * self.per_step
            taken = [order[i % self.rows] for i in range(whole * self.batch_size)]
            batches = [taken[i : i + self.batch_size] for i in range(0, len(taken), self.batch_size)]
        else:
            assert self.lengths is not None
            batches = self._by_length(order, self.lengths, self.max_tokens)
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
            batches = (batches * self.per_step)[: max(len(batches) // self.per_step, 1) * self.per_step]
        return [batches[i : i + self.per_step] for i in range(0, len(batches), self.per_step)]

    def _by_length(self, order: list[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Within windows of the permutation, rows of similar length side by side, so that little is padded."""
        batches: list[list[int]] = []
        mean = max(sum(lengths) // self.rows, 1)
        window = WINDOW * max(max_tokens // mean, 1)
        for start in range(0, self.rows, window):
            batch: list[int] = []
            for row in sorted(order[start : start + window], key=lengths.__getitem__):
                if batch and (len(batch) + 1) * lengths[row] > max_tokens:
                    batches.append(batch)
                    batch = []
                batch.append(row)
            batches.append(batch)
        return batches

    def steps(self, epochs: float) -> int:
        """Optimizer steps in so many epochs, at least 1."""
        whole = sum(self._steps_in(number) for number in range(int(epochs)))
        return max(whole + round((epochs - int(epochs)) * self._steps_in(int(epochs))), 1)

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, step within it) of a step counted from 0."""
        epoch = 0
        while step >= self._steps_in(epoch):
            step -= self._steps_in(epoch)
            epoch += 1
        return epoch, step

    def _steps_in(self, epoch: int) -> int:
        if self.max_tokens is None:
            return max(self.rows // (self.batch_size * self.per_step), 1)
        if epoch not in self.counts:
            self.counts[epoch] = len(self.epoch(epoch))
        return self.counts[epoch]


class MicroBatches(Sampler[list[int]]):
    """One rank's micro-batches from optimizer step `start` to `stop`."""

    def __init__(self, order: Order, *, rank: int, ranks: int, start: int, stop: int):
        self.order, self.rank, self.ranks, self.start, self.stop = order, rank, ranks, start, stop

    def __len__(self) -> int:
        return max(self.stop - self.start, 0) * self.order.per_step // self.ranks

    def __iter__(self) -> Iterator[list[int]]:
        epoch, within = self.order.locate(self.start)
        for _ in range(self.start, self.stop):
            if within == len(self.order.epoch(epoch)):
                epoch, within = epoch + 1, 0
            yield from self.order.epoch(epoch)[within][self.rank :: self.ranks]
            within += 1
