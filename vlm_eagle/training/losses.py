"""Losses between the draft's prediction and the target's, by row. All take logits (n, W) and probabilities (n, W), both
float32."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["soft_cross_entropy", "lk_alpha", "lk_lambda"]
RowLoss = Callable[[Tensor, Tensor], Tensor]

LK_DECAY = 3.0  # how fast lk_lambda turns from KL divergence to acceptance as acceptance grows


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) cross-entropy against the target's distribution on the draft vocabulary.

    Its gradient is that of the KL divergence; it is the loss of EAGLE-3 (https://arxiv.org/abs/2503.01840).
    """
    return _CrossEntropy.apply(logits, probabilities)


class _CrossEntropy(torch.autograd.Function):
    """Softmax minus probabilities is the gradient: half the passes over the logits, and one exponential, not two."""

    @staticmethod
    def forward(ctx, logits: Tensor, probabilities: Tensor) -> Tensor:
        shifted = logits - logits.amax(-1, keepdim=True)
        expected = (probabilities * shifted).sum(-1)
        softmax = shifted.exp_()
        sums = softmax.sum(-1, keepdim=True)
        ctx.save_for_backward(softmax.div_(sums), probabilities)
        return sums.log().squeeze(-1) - expected

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        softmax, probabilities = ctx.saved_tensors
        return (softmax - probabilities).mul_(grad[:, None]), None


def acceptance_probability(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) sum_x min(p, q): how often a drawn draft token survives rejection sampling (https://arxiv.org/abs/2302.01318)."""
    return logits.softmax(-1).minimum(probabilities).sum(-1)


def lk_alpha(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) minus the logarithm of the acceptance probability (LK losses, https://arxiv.org/abs/2602.23881)."""
    return -acceptance_probability(logits, probabilities).clamp_min(1e-12).log()


def lk_lambda(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) w KL(p, q) + (1 - w) (1 - acceptance), with w = exp(-LK_DECAY * acceptance) taken as a constant of each row.

    Where the draft is bad the KL divergence leads, where it is good the acceptance (LK losses, https://arxiv.org/abs/2602.23881).
    The weight is the row's own, so that a row's loss does not depend on its batch.
    """
    acceptance = acceptance_probability(logits, probabilities)
    weight = (-LK_DECAY * acceptance.detach()).exp()
    entropy = -probabilities.xlogy(probabilities).sum(-1)
    return weight * (soft_cross_entropy(logits, probabilities) - entropy) + (1 - weight) * (1 - acceptance)


LOSSES: dict[LossName, RowLoss] = {
    "soft_cross_entropy": soft_cross_entropy, "lk_alpha": lk_alpha, "lk_lambda": lk_lambda,
}  # fmt: skip
