"""TTT in its plain dense form: every row of every sample is unrolled, padding included; all scores and logits exist at once.

The reference that `ttt.py`, where the alignment is drawn, is tested and timed against. Causality makes padding harmless:
batches are padded on the right, so no real row ever sees a padded one.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import TargetFeatures
from vlm_eagle.training.anchors import shift_left, supervised_rows
from vlm_eagle.training.inputs import DraftInputs
from vlm_eagle.training.losses import LOSSES, LossName
from vlm_eagle.training.teacher import teach
from vlm_eagle.training.ttt import TTTResult


def dense_ttt_loss(
    draft: Eagle3Draft,
    features: TargetFeatures,
    embed_tokens: nn.Embedding,
    head: Callable[[Tensor], Tensor],
    *,
    ttt_length: int,
    decay: float,
    rows: Tensor | None = None,
    loss: LossName = "soft_cross_entropy",
    visual_samples: Tensor | None = None,
) -> TTTResult:
    """As `ttt.ttt_loss`."""
    ids, loss_mask = features.input_ids, features.loss_mask
    teacher = teach(head(features.last_hidden), draft.target_ids, draft.t2d)
    teacher_row = (loss_mask.flatten().cumsum(0) - 1).view_as(ids)  # (B, T), where position p's prediction is in (A, ...)
    own_rows = supervised_rows(loss_mask, ttt_length)
    rows = own_rows if rows is None else rows

    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    attend = TTTAttention()
    hidden = draft.fuse(features.aux_hidden)
    inputs, flat = DraftInputs(features, embed_tokens, visual_samples), torch.arange(ids.numel(), device=ids.device)
    total, correct = hidden.new_zeros((), dtype=torch.float32), []
    for k in range(ttt_length):
        embedding = inputs.embedding((flat + 1 + k).clamp_max(len(flat) - 1)).unflatten(0, ids.shape)  # rows at the end: any
        hidden = draft.step(hidden, embedding, positions + k, attend)
        chosen = shift_left(loss_mask, 1 + k)
        answer = shift_left(teacher_row, 1 + k)[chosen]  # (rows at step k,)
        logits = draft.logits(hidden[chosen])
        covered = teacher.covered[answer]
        losses = LOSSES[loss](logits, teacher.probabilities[answer]) * covered
        total = total + decay**k * losses.sum() / rows[k].clamp_min(1)
        correct.append(((logits.argmax(-1) == teacher.top[answer]) & covered).sum())
    return TTTResult(total, torch.stack(correct), own_rows)


class TTTAttention:
    """The dense `Attend` of TTT: called once per step, it remembers the keys and values of all steps so far."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, T, K) from q (B, H, T, K) against the rows (steps * T) that each may see."""
        self.keys.append(k)
        self.values.append(v)
        mask = ttt_mask(q.shape[2], len(self.keys), q.device)
        keys, values = torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)


def ttt_mask(length: int, steps: int, device: torch.device) -> Tensor:
    """(T, steps * T) bool: causal over the rows of step 0, the row itself over those of every later step."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    own = torch.eye(length, dtype=torch.bool, device=device)
    return torch.cat([causal, *[own] * (steps - 1)], dim=1)
