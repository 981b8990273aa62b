"""Which rows the draft is unrolled from, how far, and what each predicts: the alignment of `ttt.py`, as index lists.

A row is an anchor iff it is supervised at some step. Queries, MLP, logits and loss are needed at anchors alone; keys and
values of step 0 at every row up to a sample's last anchor. Everything here is computed on the host, once per micro-batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.draft.layers import Rows


def shift_left(values: Tensor, n: int) -> Tensor:
    """(B, T) -> (B, T): entry i is `values[:, i + n]`, zero (false) past the end."""
    return F.pad(values[:, n:], (0, min(n, values.shape[1])))


def supervised_rows(loss_mask: Tensor, ttt_length: int) -> Tensor:
    """(S,) int64, the number of supervised rows at every step, from the mask (B, T)."""
    return torch.stack([shift_left(loss_mask, 1 + k).sum() for k in range(ttt_length)])


@dataclass(frozen=True)
class StepRows:
    """The A_k anchors that are still unrolled at step k, in the order of samples and positions.

    Attributes:
        keep: (A_k,) rows, where each was among the anchors of step k - 1; at step 0, among all packed rows.
        reads: (A_k,) rows, its token x_{i+1+k} as that of step 0's row i + k, among all packed rows.
        asks: (A_k,) rows, the same row among the anchors of step 0: if i is one at step k, i + k is one at step 0.
        flat: (A_k,) int64, its row i of sample b as b * T + i.
        position: (A_k,) int64, i.
        supervised: (n_k,) rows, which of them are supervised at this step.
        answer: (n_k,) int64, which supervised position's prediction each of those is compared with.
        spans: by sample, (first anchor, one past the last, first packed row): what an anchor may see starts there.
        ends: by anchor, position + 1: how many rows of its sample it sees; `position` for the host.
    """

    keep: Rows
    reads: Rows
    asks: Rows
    flat: Tensor
    position: Tensor
    supervised: Rows
    answer: Tensor
    spans: tuple[tuple[int, int, int], ...]
    ends: list[int]


@dataclass(frozen=True)
class Anchors:
    """Index lists of one batch.

    Attributes:
        packed: (R,) int64, every sample's rows 0 .. its last anchor, sample after sample, as b * T + i.
        position: (R,) int64, i.
        steps: one entry per TTT step; those without any anchor are left out.
        positions: A, the number of supervised positions.
    """

    packed: Tensor
    position: Tensor
    steps: tuple[StepRows, ...]
    positions: int

    @classmethod
    def of(cls, loss_mask: Tensor, ttt_length: int) -> "Anchors":
        """From the mask (B, T); everything stays on the CPU."""
        loss_mask = loss_mask.cpu()
        b, t = loss_mask.shape
        needed = [shift_left(loss_mask, 1 + k) for k in range(ttt_length)]
        active = list(needed)
        for k in reversed(range(ttt_length - 1)):
            active[k] = active[k] | active[k + 1]
        index = torch.arange(t)
        lengths = torch.where(active[0], index + 1, 0).amax(1)  # (B,) rows up to the last anchor
        kept = index < lengths[:, None]
        packed = kept.flatten().nonzero().flatten()
        starts = (lengths.cumsum(0) - lengths).tolist()
        answers = (loss_mask.flatten().cumsum(0) - 1).view(b, t)
        steps, before, first = [], packed, active[0].flatten().nonzero().flatten()
        for k in range(ttt_length):
            flat = active[k].flatten().nonzero().flatten()
            if not len(flat):
                break
            chosen = needed[k].flatten()[flat].nonzero().flatten()
            answer = shift_left(answers, 1 + k).flatten()[flat[chosen]]
            keep, reads, asks = (
                _rows(torch.searchsorted(*pair)) for pair in ((before, flat), (packed, flat + k), (first, flat + k))
            )
            position, spans = flat % t, _spans(active[k].sum(1), starts)
            steps.append(StepRows(keep, reads, asks, flat, position, _rows(chosen), answer, spans, (position + 1).tolist()))
            before = flat
        return cls(packed, packed % t, tuple(steps), int(loss_mask.sum()))

    def to(self, device: torch.device) -> "Anchors":
        """The same with every index tensor on `device`."""
        return replace(
            self, packed=self.packed.to(device, non_blocking=True), position=self.position.to(device, non_blocking=True),
            steps=tuple(_moved(step, device) for step in self.steps),
        )  # fmt: skip


def _rows(ascending: Tensor) -> Rows:
    """A slice, which copies nothing, where the (n,) indices leave none out."""
    if not len(ascending) or int(ascending[-1] - ascending[0]) >= len(ascending):
        return ascending
    return slice(int(ascending[0]), int(ascending[-1]) + 1)


def _spans(counts: Tensor, starts: list[int]) -> tuple[tuple[int, int, int], ...]:
    def every() -> Iterator[tuple[int, int, int]]:
        first = 0
        for count, start in zip(counts.tolist(), starts, strict=True):
            if count:
                yield first, first + count, start
            first += count

    return tuple(every())


def _moved(step: StepRows, device: torch.device) -> StepRows:
    values = {f.name: getattr(step, f.name) for f in fields(step)}
    return replace(step, **{n: v.to(device, non_blocking=True) for n, v in values.items() if isinstance(v, Tensor)})
