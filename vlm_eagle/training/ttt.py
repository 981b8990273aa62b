"""Training-time test (TTT): the draft is unrolled on its own hidden states, as it will be when it drafts.

Alignment. The target read x_0 x_1 ... and left aux hidden states h_i. Row i of the draft:

    step 0   takes fc(h_i)      and embed(x_{i+1})     at rotary position i      predicts x_{i+2}
    step k   takes its output   and embed(x_{i+1+k})   at rotary position i+k    predicts x_{i+2+k}
             of step k-1 (pre-norm)

    prompt: x_0 x_1 x_2      answer: x_3 x_4 x_5        supervised positions p (x_{p+1} is answer): 2 3 4

    row i          0    1    2    3
    step 0 sees   x_1  x_2  x_3  x_4      row 2 holds the last prompt token's h and the first answer token: the first
           says   x_2  x_3  x_4  x_5      row that decoding uses
    step 1 sees   x_2  x_3  x_4  x_5
           says   x_3  x_4  x_5   -

    What row i says at step k is target position p = i+1+k's prediction: it is supervised iff `supervised[i+1+k]`.

Attention at step k: row i sees the step-0 rows j <= i and its own rows of steps 1..k. Causality makes padding harmless:
batches are padded on the right, so no real row ever sees a padded one.

This is the plain dense form: every row is unrolled; only logits and loss are taken at supervised rows alone.
Source: https://arxiv.org/abs/2503.01840, section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import TargetFeatures
from vlm_eagle.training.losses import soft_cross_entropy
from vlm_eagle.training.teacher import teach


@dataclass(frozen=True)
class TTTResult:
    """Loss and counts of one batch.

    Attributes:
        loss: 0-d, sum_k decay^k * (sum over supervised rows) / rows[k], where rows came from the caller.
        correct: (S,) int64, supervised rows whose argmax is the target's, by step.
        rows: (S,) int64, supervised rows of this batch, by step.
    """

    loss: Tensor
    correct: Tensor
    rows: Tensor


def supervised_rows(supervised: Tensor, ttt_length: int) -> Tensor:
    """(S,) int64, the number of supervised rows at every step, from the mask (B, T)."""
    return torch.stack([ahead(supervised, 1 + k).sum() for k in range(ttt_length)])


def ahead(values: Tensor, n: int) -> Tensor:
    """(B, T) -> (B, T): entry i is `values[:, i + n]`, zero (false) past the end."""
    return F.pad(values[:, n:], (0, min(n, values.shape[1])))


def ttt_loss(
    draft: Eagle3Draft,
    features: TargetFeatures,
    embed_tokens: nn.Embedding,
    head: Callable[[Tensor], Tensor],
    *,
    ttt_length: int,
    decay: float,
    rows: Tensor | None = None,
) -> TTTResult:
    """Unrolls the draft `ttt_length` steps over every row of a batch.

    Args:
        draft: the head being trained.
        features: the target's side of the batch.
        embed_tokens: the target's frozen embedding.
        head: the target's lm_head, (n, D_target) -> (n, V).
        ttt_length: S.
        decay: weight of step k is decay ** k.
        rows: (S,) normaliser, the supervised rows of the whole optimizer step (all micro-batches and ranks), so that how a step
            is cut into batches does not matter; None for those of this batch.
    """
    ids, supervised = features.input_ids, features.supervised
    teacher = teach(features.last_hidden, head, draft.target_ids, draft.t2d)
    teacher_row = (supervised.flatten().cumsum(0) - 1).view_as(ids)  # (B, T), where position p's prediction is in (A, ...)
    own_rows = supervised_rows(supervised, ttt_length)
    rows = own_rows if rows is None else rows

    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    attend = TTTAttention()
    hidden = draft.fuse(features.aux_hidden)
    loss, correct = hidden.new_zeros((), dtype=torch.float32), []
    for k in range(ttt_length):
        hidden = draft.step(hidden, embed_tokens(ahead(ids, 1 + k)), positions + k, attend)
        chosen = ahead(supervised, 1 + k)
        answer = ahead(teacher_row, 1 + k)[chosen]  # (rows at step k,)
        logits = draft.logits(hidden[chosen])
        covered = teacher.covered[answer]
        losses = soft_cross_entropy(logits, teacher.probabilities[answer]) * covered
        loss = loss + decay**k * losses.sum() / rows[k].clamp_min(1)
        correct.append(((logits.argmax(-1) == teacher.top[answer]) & covered).sum())
    return TTTResult(loss, torch.stack(correct), own_rows)


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
