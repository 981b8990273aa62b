"""Losses between the draft's prediction and the target's, by row."""

from torch import Tensor


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """(n,) cross-entropy of logits (n, W) against the target's distribution (n, W) on the draft vocabulary.

    Its gradient is that of the KL divergence; it is the loss of EAGLE-3 (https://arxiv.org/abs/2503.01840).
    """
    return -(probabilities * logits.log_softmax(-1)).sum(-1)
