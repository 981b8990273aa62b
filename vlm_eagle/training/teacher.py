"""What the draft learns from: the target's next-token distribution at supervised positions, on the draft vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # rows whose full-vocabulary logits exist at one time


@dataclass(frozen=True)
class Teacher:
    """The target's predictions at the A supervised positions of a batch.

    Attributes:
        probabilities: (A, W) float32, softmax of the target's logits restricted to the draft vocabulary.
        top: (A,) int64, the draft id of the target's argmax; meaningless where not `covered`.
        covered: (A,) bool, whether the argmax over the whole vocabulary is in the draft vocabulary.
    """

    probabilities: Tensor
    top: Tensor
    covered: Tensor


@torch.no_grad()
def teach(last_hidden: Tensor, head: Callable[[Tensor], Tensor], target_ids: Tensor, t2d: Tensor) -> Teacher:
    """Teacher from the target's final hidden states.

    Args:
        last_hidden: (A, D_target).
        head: the target's lm_head, (n, D_target) -> (n, V) float32.
        target_ids: (W,) target ids of the draft vocabulary, ascending.
        t2d: (V,) bool.
    """
    parts = [_teach_chunk(head(rows), target_ids, t2d) for rows in last_hidden.split(CHUNK)]
    return Teacher(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _teach_chunk(logits: Tensor, target_ids: Tensor, t2d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    argmax = logits.argmax(-1)
    top = torch.searchsorted(target_ids, argmax).clamp_max(len(target_ids) - 1)
    return logits[:, target_ids].softmax(-1), top, t2d[argmax]
