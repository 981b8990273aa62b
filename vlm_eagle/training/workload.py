"""How a run trains, as far as it decides what the run needs."""

import math
from dataclasses import dataclass
from typing import Literal

from vlm_eagle.training.losses import LossName

GIB = 2**30

Part = tuple[str, int]  # (what, bytes)


def total(parts: tuple[Part, ...]) -> int:
    """The bytes of all parts."""
    return sum(size for _, size in parts)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A run's settings and what its data are assumed to be.

    Attributes:
        batch_size: conversations per forward and device.
        gradient_accumulation_steps: forwards per optimizer step.
        max_length: T, tokens of every conversation.
        ttt_length: S.
        supervised_fraction: share of tokens that are supervised.
        image_fraction: share of tokens that are image tokens, one image per conversation; 0 for text.
        optimizer: "muon" (AdamW for lm_head and norms) or "adamw".
        loss: which loss; LK losses hold more per logit.
        autocast: whether the draft computes in 16 bits (accelerate's mixed precision) beside its float32 master weights.
        gradient_checkpointing: of the TTT steps only their inputs are kept, and each step is computed again for its gradient.
        processes: devices that train together, each with its own copy of everything.
        sharded: whether they share the draft's weights, gradients and optimizer state among them (FSDP).
        target_sharded: whether they share the weights of the target's decoder layers (FSDP).
        llm_only: the vision tower is not loaded.
        offline: features come from a store; of the target only embedding and lm_head are loaded.
        fill: features come from a store after the first epoch, which fills it; the whole target stays loaded.
        visual: the draft reads visual embeddings at (some) image tokens, so that they are kept with the features.
        device: "cuda" or "cpu": how large chunks of queries and logits are.
    """

    batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    ttt_length: int
    supervised_fraction: float
    image_fraction: float = 0.0
    optimizer: Literal["muon", "adamw"] = "muon"
    loss: LossName = "soft_cross_entropy"
    autocast: bool = True
    gradient_checkpointing: bool = False
    processes: int = 1
    sharded: bool = False
    target_sharded: bool = False
    llm_only: bool = False
    offline: bool = False
    fill: bool = False
    visual: bool = False
    device: Literal["cuda", "cpu"] = "cuda"

    @property
    def tokens(self) -> int:
        """B * T of a micro-batch."""
        return self.batch_size * self.max_length

    @property
    def anchors(self) -> int:
        """A of a micro-batch: rows that the draft unrolls. Supervised positions, that is: the up to S - 1 anchors before an
        answer's first token are left out, and so is that as few positions drop out towards the last step."""
        return math.ceil(round(self.tokens * self.supervised_fraction, 6))

    @property
    def draft_bytes(self) -> int:
        """Bytes of a value in the draft's matrix products."""
        return 2 if self.autocast else 4

    @property
    def image_tokens(self) -> int:
        """Image tokens of a micro-batch."""
        return math.ceil(round(self.tokens * self.image_fraction, 6))
