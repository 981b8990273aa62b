"""Loss and gradient over the vocabulary in chunks: no logits outlive their chunk, neither the target's nor the draft's.

Rows are taken in the order of the supervised position they predict, so the target's logits of a position are made once,
whatever the number of TTT steps. The gradient with respect to hidden states and head is computed with the loss, while the
logits are there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.devices import autocast_dtype
from vlm_eagle.training.chunks import add_product, chunk_sizes
from vlm_eagle.training.losses import RowLoss
from vlm_eagle.training.teacher import teach


@dataclass(frozen=True)
class Prediction:
    """What rows predict, in any order of rows.

    Attributes:
        answer: (n,) int64, which supervised position's prediction each row is compared with.
        step: (n,) int64, the row's TTT step.
        weight: (n,) float32, the row's factor in the loss.
    """

    answer: Tensor
    step: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Teaching:
    """Where the target's predictions come from: last_hidden (A, D_target), head (n, D_target) -> (n, V) float32, and the draft
    vocabulary's target_ids (W,) and t2d (V,)."""

    last_hidden: Tensor
    head: Callable[[Tensor], Tensor]
    target_ids: Tensor
    t2d: Tensor


def chunked_loss(
    hidden: Tensor, weight: Tensor, prediction: Prediction, teaching: Teaching, row_loss: RowLoss, steps: int
) -> tuple[Tensor, Tensor]:
    """(sum over rows of weight * loss, 0-d float32; (S,) int64 rows whose argmax is the target's).

    Rows whose target argmax is outside the draft vocabulary carry no loss and count as wrong.

    Args:
        hidden: (n, D), normed.
        weight: (W, D), the draft's head.
        prediction: what each row predicts.
        teaching: the target's side.
        row_loss: one of `losses.py`.
        steps: S.
    """
    return _ChunkedLoss.apply(hidden, weight, prediction, teaching, row_loss, steps, torch.is_grad_enabled())


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        hidden: Tensor,
        weight: Tensor,
        prediction: Prediction,
        teaching: Teaching,
        row_loss: RowLoss,
        steps: int,
        learn: bool,
    ) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros(steps, dtype=torch.long, device=hidden.device)
        grads = [torch.zeros_like(t, dtype=torch.float32) for t in (hidden, weight)] if learn else []
        order, cast = prediction.answer.argsort(stable=True), weight.to(autocast_dtype(weight))
        for positions, rows in _chunks(order, prediction.answer, teaching, len(weight), steps):
            x = hidden.index_select(0, rows).to(cast.dtype)
            part, right, d_logits = _chunk(x, cast, prediction, teaching, row_loss, positions, rows, learn)
            loss += part
            correct.index_add_(0, prediction.step[rows], right)
            if d_logits is not None:
                grads[0][rows] = (d_logits @ cast).float()
                add_product(grads[1], d_logits.T, x)
            del d_logits  # nothing of this chunk lives while the next one is made
        if learn:
            ctx.save_for_backward(grads[0].to(hidden.dtype), grads[1].to(weight.dtype))
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden.mul_(grad), d_weight.mul_(grad), None, None, None, None, None  # in place: once is all they are used


def _chunk(
    x: Tensor, weight: Tensor, prediction: Prediction, teaching: Teaching, row_loss: RowLoss, positions: slice, rows: Tensor,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """(loss, 0-d; (r,) int64 1 where the row's argmax is the target's; gradient of the logits (r, W)) of the rows (r,) that
    predict `positions`, from their hidden states x (r, D)."""
    teacher = teach(teaching.head(teaching.last_hidden[positions]), teaching.target_ids, teaching.t2d)
    answer = prediction.answer[rows] - positions.start
    covered = teacher.covered[answer]
    logits = F.linear(x, weight)
    with torch.enable_grad():
        leaf = logits.float().detach().requires_grad_(learn)
        losses = row_loss(leaf, teacher.probabilities.index_select(0, answer))
        part = (losses * prediction.weight[rows] * covered).sum()
    right = (leaf.detach().max(-1).indices == teacher.top[answer]) & covered
    if not learn:
        return part, right.long(), None
    (d_logits,) = torch.autograd.grad(part, leaf)
    return part.detach(), right.long(), d_logits.to(logits.dtype)


def _chunks(order: Tensor, answer: Tensor, teaching: Teaching, width: int, steps: int) -> list[tuple[slice, Tensor]]:
    """(positions, the rows that predict them): a position takes logits (V,) of its own and (W,) of up to S rows."""
    device, total, limit = order.device, len(teaching.last_hidden), chunk_sizes(order.device)
    size = min(max(limit.logits // (len(teaching.t2d) + steps * width), 1), limit.positions)
    bounds = [*range(0, total, size), total]
    edges = torch.searchsorted(answer[order], torch.tensor(bounds, device=device)).tolist()
    pairs = zip(bounds, bounds[1:], edges, edges[1:], strict=False)
    return [(slice(lo, hi), order[first:last]) for lo, hi, first, last in pairs if last > first]
