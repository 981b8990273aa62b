"""The two records that the stages exchange, and the shape letters used throughout.

B batch, T tokens, N tree nodes, S ttt steps, A supervised positions (flattened), H heads, K head dim, D hidden,
V target vocabulary, W draft vocabulary, L layers, P patches.
"""

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Conversations as tensors, right-padded. `vision_inputs` go to the target untouched.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 1 at real tokens.
        loss_mask: (B, T) bool, true at p iff token p + 1 is part of an assistant's answer.
        vision_inputs: what the processor made of images and videos (pixel_values (P, C) concatenated along patches and never
            padded, image_grid_thw, video_grid_thw, mm_token_type_ids (B, T)); empty for text.
        ids: the conversations' names, in row order.
        skipped: reason -> count of samples that could not become part of this batch.
    """

    input_ids: Tensor
    attention_mask: Tensor
    loss_mask: Tensor
    vision_inputs: dict[str, Tensor] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on `device`."""
        moved = _tensors_to(self, device)
        return replace(self, **moved, vision_inputs={k: v.to(device, non_blocking=True) for k, v in self.vision_inputs.items()})


@dataclass(frozen=True)
class TargetFeatures:
    """What the frozen target gives the draft for one batch; where it came from (online or a store) does not matter.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 1 at real tokens.
        loss_mask: (B, T) bool.
        aux_hidden: (B, T, 3 * D_target), the inputs of three decoder layers, concatenated.
        last_hidden: (A, D_target), the normed final hidden state at the A true entries of `loss_mask`, in row-major order.
        visual: (I, D_target), the projected visual embeddings at the I image and video tokens, in row-major order; None when
            the draft does not read them.
        visual_mask: (B, T) bool, where those are; None likewise.
        ids: the conversations' names, in row order.
        skipped: reason -> count of samples that could not become part of this batch.
    """

    input_ids: Tensor
    attention_mask: Tensor
    loss_mask: Tensor
    aux_hidden: Tensor
    last_hidden: Tensor
    visual: Tensor | None = None
    visual_mask: Tensor | None = None
    ids: tuple[str, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def to(self, device: torch.device | str) -> "TargetFeatures":
        """The same features with every tensor on `device`."""
        return replace(self, **_tensors_to(self, device))


def _tensors_to(record: Batch | TargetFeatures, device: torch.device | str) -> dict[str, Tensor]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {name: value.to(device, non_blocking=True) for name, value in values.items() if isinstance(value, Tensor)}
