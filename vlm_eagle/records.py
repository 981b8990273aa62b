"""The two records that the stages exchange, and the shape letters used throughout.

B batch, T tokens, N tree nodes, S ttt steps, A supervised positions (flattened), H heads, K head dim, D hidden,
V target vocabulary, W draft vocabulary, L layers, P patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

# what has an entry per token, (B, T), with the value that pads it; the pad token is the tokenizer's
PER_TOKEN = {"input_ids": 0, "attention_mask": 0, "loss_mask": False, "mm_token_type_ids": 0}


@dataclass(frozen=True)
class Batch:
    """Conversations as tensors, right-padded. `vision_inputs` go to the target untouched.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 1 at real tokens.
        loss_mask: (B, T) bool, true at p iff token p + 1 is part of an assistant's answer.
        vision_inputs: what the processor made of images and videos (pixel_values (P, C) concatenated along patches and never
            padded, image_grid_thw, video_grid_thw, mm_token_type_ids (B, T)); empty for text.
        ids: the conversations' names, in order.
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
        vision_inputs = {name: value.to(device, non_blocking=True) for name, value in self.vision_inputs.items()}
        return replace(self, **_tensors_to(self, device), vision_inputs=vision_inputs)

    def from_position(self, start: int) -> "Batch":
        """The same batch without its first `start` positions; pixels stay."""
        return self._per_token(lambda _, value: value[:, start:])

    def reordered(self, order: Tensor) -> "Batch":
        """The same batch with its positions in another `order` (B, T)."""
        return self._per_token(lambda _, value: value.gather(1, order))

    def extended(self, tokens: Sequence[int]) -> "Batch":
        """A batch of one with text tokens appended."""
        added = self.input_ids.new_tensor([tokens])
        longer = self._per_token(lambda name, value: F.pad(value, (0, len(tokens)), value=int(name == "attention_mask")))
        return replace(longer, input_ids=torch.cat([self.input_ids, added], dim=1))

    def _per_token(self, change: Callable[[str, Tensor], Tensor]) -> "Batch":
        changed = {f.name: change(f.name, getattr(self, f.name)) for f in fields(self) if f.name in PER_TOKEN}
        vision_inputs = {name: change(name, v) if name in PER_TOKEN else v for name, v in self.vision_inputs.items()}
        return replace(self, **changed, vision_inputs=vision_inputs)


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
        ids: the conversations' names, in order.
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
