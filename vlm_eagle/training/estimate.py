"""What a training run needs, from numbers alone: device memory by part, and disk for features.

Weights, gradients and optimizer state are exact. Activations are counted tensor by tensor for the largest micro-batch that the
settings allow, `batch_size` conversations of `max_length` tokens, and are estimates: kernels and allocators differ.

Per device. Draft letters are those of `records.py`; A here is the number of anchors, the rows the draft unrolls.
"""

import math
from dataclasses import dataclass
from typing import Literal

from vlm_eagle.training.sizes import DraftSizes, TargetSizes

GIB = 2**30
CHUNK = 256  # supervised positions whose logits exist at one time
OVERHEAD = int(0.6 * GIB)  # CUDA context, libraries, what the allocator cannot use

Part = tuple[str, int]  # (what, bytes)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How a run trains, as far as it decides what the run needs.

    Attributes:
        batch_size: conversations per forward and device.
        accumulation: forwards per optimizer step.
        max_length: T, tokens of every conversation.
        ttt_length: S.
        supervised_fraction: share of tokens that are supervised.
        image_fraction: share of tokens that are image tokens, one image per conversation; 0 for text.
        optimizer: "muon" (AdamW for lm_head and norms) or "adamw".
        autocast: whether the draft computes in 16 bits (accelerate's mixed precision) beside its float32 master weights.
        processes: devices that train together, each with its own copy of everything.
        sharded: whether they share the draft's weights, gradients and optimizer state among them (FSDP).
        llm_only: the vision tower is not loaded.
        offline: features come from a store; of the target only embedding and lm_head are loaded.
    """

    batch_size: int
    accumulation: int
    max_length: int
    ttt_length: int
    supervised_fraction: float
    image_fraction: float = 0.0
    optimizer: Literal["muon", "adamw"] = "muon"
    autocast: bool = True
    processes: int = 1
    sharded: bool = False
    llm_only: bool = False
    offline: bool = False

    @property
    def tokens(self) -> int:
        """B * T of a micro-batch."""
        return self.batch_size * self.max_length

    @property
    def anchors(self) -> int:
        """A of a micro-batch: rows that the draft unrolls."""
        return math.ceil(self.tokens * self.supervised_fraction)

    @property
    def draft_bytes(self) -> int:
        """Bytes of a value in the draft's matrix products."""
        return 2 if self.autocast else 4

    @property
    def image_tokens(self) -> int:
        """Image tokens of a micro-batch."""
        return math.ceil(self.tokens * self.image_fraction)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Device memory by part, in bytes. What is `held` stays; of the three phases only the largest counts.

    Attributes:
        held: weights, gradients and optimizer state.
        forward: while the frozen target reads a micro-batch.
        draft: while the draft is unrolled and differentiated on it.
        update: while the optimizer steps.
    """

    held: tuple[Part, ...]
    forward: tuple[Part, ...]
    draft: tuple[Part, ...]
    update: tuple[Part, ...]

    @property
    def phases(self) -> dict[str, tuple[Part, ...]]:
        """The three phases by name."""
        return {"forward of the target": self.forward, "unrolled draft": self.draft, "optimizer's update": self.update}

    @property
    def largest(self) -> str:
        """The name of the phase that decides."""
        return max(self.phases, key=lambda name: total(self.phases[name]))

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return total(self.held) + total(self.phases[self.largest])


def total(parts: tuple[Part, ...]) -> int:
    """The bytes of all parts."""
    return sum(size for _, size in parts)


def estimate_memory(target: TargetSizes, draft: DraftSizes, work: Workload) -> Memory:
    """Device memory of a run, by part."""
    aux = ("captured aux hidden states", 3 * target.hidden * work.tokens * target.value_bytes)
    last = ("last hidden states where supervised", target.hidden * work.anchors * target.value_bytes)
    copies = (("16-bit copies of the draft's weights and their gradients", 4 * draft.parameters),) if work.autocast else ()
    return Memory(
        held=_held(target, draft, work),
        forward=() if work.offline else (aux, *_forward(target, work)),
        draft=(
            aux,
            last,
            *copies,
            ("draft at all rows: fc, keys, values", work.tokens * _row_bytes(draft, work)),
            ("draft at anchors, all steps", work.anchors * work.ttt_length * _anchor_bytes(draft, work)),
            ("attention of one step while it is computed", 2 * 4 * work.anchors * _attention_weights(draft, work)),
            ("loss, one chunk of positions", _chunk_bytes(draft, work)),
        ),
        update=_update(draft, work),
    )


def weight_bytes(target: TargetSizes, work: Workload) -> int:
    """Bytes of the target's weights that a run loads."""
    values = target.embedding + target.head
    if not work.offline:
        values += target.decoder + (target.vision.parameters if target.vision and not work.llm_only else 0)
    return values * target.value_bytes


def optimizer_bytes(draft: DraftSizes, optimizer: str) -> int:
    """Bytes of optimizer state in float32: one buffer per value for Muon, two for AdamW."""
    muon = draft.muon_parameters if optimizer == "muon" else 0
    return 4 * muon + 8 * (draft.parameters - muon)


def store_bytes(target: TargetSizes, tokens: int, supervised_fraction: float) -> int:
    """Bytes on disk of captured features in 16 bits: aux hidden states of all tokens, last hidden states of supervised ones."""
    return round(tokens * target.hidden * 2 * (3 + supervised_fraction))


def _held(target: TargetSizes, draft: DraftSizes, work: Workload) -> tuple[Part, ...]:
    share = work.processes if work.sharded else 1
    parts = [
        ("target's weights", weight_bytes(target, work)),
        ("draft's weights, float32", 4 * draft.parameters // share),
        ("gradients, float32", 4 * draft.parameters // share),
        ("optimizer's state", optimizer_bytes(draft, work.optimizer) // share),
    ]
    if work.processes > 1 and not work.sharded:
        parts.append(("gradients on their way to other devices", 4 * draft.parameters))
    return (*parts, ("context and libraries", OVERHEAD))


def _forward(target: TargetSizes, work: Workload) -> list[Part]:
    """Live at one time: four hidden states and what one MLP holds. The vision tower runs before and leaves its features; in its
    attention 22 values of its width live per patch, rotated queries and keys in float32 among them."""
    width, vision = target.value_bytes, target.vision
    mask = work.batch_size * work.max_length**2 * (1 + width) if work.batch_size > 1 else 0  # none without padding
    parts = [("target's activations", work.tokens * (4 * target.hidden + target.mlp_live) * width + mask)]
    if vision is None or not work.image_tokens:
        return parts
    patches = work.image_tokens * vision.patches_per_token
    pixels = patches * vision.patch_values * (4 + width)
    blocks = patches * max(22 * vision.hidden, 3 * vision.hidden + 2 * vision.intermediate) * width
    features = (1 + vision.levels) * work.image_tokens * target.hidden * width
    if pixels + blocks > total(tuple(parts)):
        parts = [("vision tower's activations", pixels + blocks)]
    return [*parts, ("visual features, DeepStack included", features)]


def _row_bytes(draft: DraftSizes, work: Workload) -> int:
    """Kept for the backward pass of a row at step 0: its aux and fused hidden state, what keys and values are made of (under
    autocast a 16-bit copy for each), keys and values; in float32 what two norms take in."""
    hidden, width = draft.config.hidden_size, work.draft_bytes
    _, key = widths(draft)
    copies = 2 if work.autocast else 1
    return width * (3 * draft.config.target_hidden_size + hidden + copies * 2 * hidden + 2 * key) + 4 * 2 * hidden


def _anchor_bytes(draft: DraftSizes, work: Workload) -> int:
    """Kept for the backward pass of an anchor at one step: what q, k, v are made of, they themselves, what attention mixes, the
    MLP and its input, the step's output; in float32 what three norms take in, and attention's weights over all keys.

    A fused attention kernel would not keep the weights. That it takes a mask and shared key-value heads is not relied on.
    """
    hidden, width = draft.config.hidden_size, work.draft_bytes
    query, key = widths(draft)
    copies = 3 if work.autocast else 1
    mlp = 4 * draft.config.intermediate_size + (2 if work.autocast else 1) * hidden
    attention = _attention_weights(draft, work) * (width + 4 if work.autocast else 4)
    return width * (copies * 2 * hidden + 3 * query + 2 * key + mlp + hidden) + 4 * 3 * hidden + attention


def _attention_weights(draft: DraftSizes, work: Workload) -> int:
    """Of one anchor at one step: all rows, and itself at every step."""
    return draft.config.num_attention_heads * (work.max_length + work.ttt_length)


def _chunk_bytes(draft: DraftSizes, work: Workload) -> int:
    """The target's logits of a chunk, and the draft's at every step with their gradient, in float32."""
    positions = min(CHUNK, work.anchors)
    return 4 * positions * (draft.config.vocab_size + 2 * work.ttt_length * draft.config.draft_vocab_size)


def _update(draft: DraftSizes, work: Workload) -> tuple[Part, ...]:
    """AdamW updates its tensors together, with one more buffer for all; Muon goes matrix by matrix, in 16 bits."""
    muon = draft.muon_parameters if work.optimizer == "muon" else 0
    share = work.processes if work.sharded else 1
    adamw = ("AdamW's intermediate values", 4 * (draft.parameters - muon) // share)
    largest = max(rows * columns for rows, columns in draft.muon) if muon else 0
    return (max(adamw, ("Muon's largest matrix", (4 + 3 * 2) * largest), key=lambda part: part[1]),)


def widths(draft: DraftSizes) -> tuple[int, int]:
    """Queries and keys of a draft row: (H * K, H_kv * K)."""
    sizes = draft.config
    return sizes.num_attention_heads * sizes.head_dim, sizes.num_key_value_heads * sizes.head_dim
