"""What the draft learns from: the target's next-token distribution at supervised positions, on the draft vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Teacher:
    """The target's predictions at n supervised positions.

    Attributes:
        probabilities: (n, W) float32, softmax of the target's logits restricted to the draft vocabulary.
        top: (n,) int64, the draft id of the target's argmax; meaningless where not `covered`.
        covered: (n,) bool, whether the argmax over the whole vocabulary is in the draft vocabulary.
    """

    probabilities: Tensor
    top: Tensor
    covered: Tensor


@torch.no_grad()
def teach(logits: Tensor, target_ids: Tensor, t2d: Tensor) -> Teacher:
    """Teacher from the target's logits (n, V); target_ids (W,) are the target ids of the draft vocabulary, ascending, t2d
    (V,)."""
    argmax = logits.max(-1).indices  # on a CPU twice as fast as `argmax`
    top = torch.searchsorted(target_ids, argmax).clamp_max(len(target_ids) - 1)
    return Teacher(logits.index_select(1, target_ids).float().softmax(-1), top, t2d[argmax])
