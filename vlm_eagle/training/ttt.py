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

    What row i says at step k is target position p = i+1+k's prediction: it is supervised iff `loss_mask[i+1+k]`.

Attention at step k: row i sees the step-0 rows j <= i and its own rows of steps 1..k.

Work only where it counts: rows that are supervised at some step are anchors (`anchors.py`). Keys and values of step 0 are
computed for all rows of a sample up to its last anchor, everything else for anchors alone; samples are packed one behind the
other, without padding; logits exist in chunks (`chunked_loss.py`), attention scores too (`attention.py`). `ttt_dense.py` is
the same without any of this. Source: https://arxiv.org/abs/2503.01840, section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlm_eagle.draft.layers import Embedded
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import TargetFeatures
from vlm_eagle.training.anchors import Anchors, StepRows, supervised_rows
from vlm_eagle.training.attention import AnchorAttention, KVContext
from vlm_eagle.training.chunked_loss import Prediction, Teaching, chunked_loss
from vlm_eagle.training.inputs import DraftInputs
from vlm_eagle.training.losses import LOSSES, LossName


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


def ttt_loss(
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
    gradient_checkpointing: bool = False,
) -> TTTResult:
    """Unrolls the draft `ttt_length` steps over the anchors of a batch.

    Args:
        draft: the head being trained.
        features: the target's side of the batch.
        embed_tokens: the target's frozen embedding.
        head: the target's lm_head, (n, D_target) -> (n, V).
        ttt_length: S.
        decay: weight of step k is decay ** k.
        rows: (S,) normaliser, the supervised rows of the whole optimizer step (all micro-batches and ranks), so that how a step
            is cut into batches does not matter; None for those of this batch.
        loss: which of `losses.py`.
        visual_samples: (B,) bool, samples that see projected visual embeddings at image rows; None for none (`inputs.py`).
        gradient_checkpointing: keep only each step's input for the gradient, and compute the step again: less memory, a
            third more time.
    """
    anchors = Anchors.of(features.loss_mask, ttt_length)
    own_rows = supervised_rows(features.loss_mask, ttt_length)
    if not anchors.steps:  # nothing to learn, but every parameter takes part, as data parallelism expects
        zero = torch.stack([p.sum() * 0.0 for p in draft.parameters()]).sum()
        return TTTResult(zero, torch.zeros_like(own_rows), own_rows)
    anchors = anchors.to(features.input_ids.device)
    inputs = DraftInputs(features, embed_tokens, visual_samples)
    embedded = draft.embedded(inputs.embedding(anchors.packed + 1)[None], anchors.steps[0].keep)
    hidden = draft.fuse(features.aux_hidden.flatten(0, 1)[anchors.packed])[None]
    seen: KVContext | None = None
    step_hidden = []
    for k, step in enumerate(anchors.steps):
        if gradient_checkpointing:
            hidden, seen = checkpoint(_unroll, draft, hidden, seen, embedded, anchors, k, use_reentrant=False)
        else:
            hidden, seen = _unroll(draft, hidden, seen, embedded, anchors, k)
        step_hidden.append(draft.normed(hidden[0, step.supervised]))
    prediction = _prediction(anchors.steps, decay, own_rows if rows is None else rows)
    teaching = Teaching(features.last_hidden, head, draft.target_ids, draft.t2d)
    total, correct = chunked_loss(torch.cat(step_hidden), draft.lm_head.weight, prediction, teaching, LOSSES[loss], ttt_length)
    return TTTResult(total, correct, own_rows)


def _unroll(
    draft: Eagle3Draft, hidden: Tensor, seen: KVContext | None, embedded: Embedded, anchors: Anchors, k: int
) -> tuple[Tensor, KVContext]:
    """One step: (1, A_k, D) from the step before's (1, A_{k-1}, D), at step 0 from the fused (1, R, D) of all packed rows."""
    step = anchors.steps[k]
    attend = AnchorAttention(step, seen.kept(step.keep) if seen is not None else None)
    if k == 0:
        hidden = draft.step(hidden, embedded, anchors.position[None], attend, queries=step.keep)
    else:
        embedded = embedded.at(step.asks, step.reads)
        hidden = draft.step(hidden[:, step.keep], embedded, step.position[None] + k, attend)
    assert attend.seen is not None
    return hidden, attend.seen


def _prediction(steps: tuple[StepRows, ...], decay: float, rows: Tensor) -> Prediction:
    weights = decay ** torch.arange(len(rows), device=rows.device) / rows.clamp_min(1)
    number = torch.cat([torch.full_like(step.answer, k) for k, step in enumerate(steps)])
    return Prediction(torch.cat([step.answer for step in steps]), number, weights.float()[number])
