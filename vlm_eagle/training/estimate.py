"""What a training run needs, from numbers alone: device memory by part, and disk for features.

Weights, gradients and optimizer state are exact. Activations are counted tensor by tensor for the largest micro-batch that the
settings allow, `batch_size` conversations of `max_length` tokens, and are estimates: kernels and allocators differ.

Per device. Shape letters are those of `records.py`; A here is the number of anchors, the rows the draft unrolls.
"""

from dataclasses import dataclass
from typing import Literal

from vlm_eagle.training.activations import DraftActivations
from vlm_eagle.training.sizes import DraftSizes, TargetSizes
from vlm_eagle.training.workload import GIB, Part, Workload, total

OVERHEAD = int(0.6 * GIB)  # CUDA context, libraries, what the allocator cannot use


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Device memory by part, in bytes. What is `held` stays; of the four phases only the largest counts.

    Attributes:
        held: weights, gradients, optimizer state, and on a CPU what the other micro-batches of a step bring along.
        forward: while the frozen target reads a micro-batch.
        loss: while the draft's loss on it is computed.
        gradient: while the draft is differentiated on it.
        update: while the optimizer steps.
    """

    held: tuple[Part, ...]
    forward: tuple[Part, ...]
    loss: tuple[Part, ...]
    gradient: tuple[Part, ...]
    update: tuple[Part, ...]

    @property
    def phases(self) -> dict[str, tuple[Part, ...]]:
        """The phases by name."""
        return {
            "forward of the target": self.forward, "loss of the draft": self.loss, "gradient of the draft": self.gradient,
            "optimizer's update": self.update,
        }  # fmt: skip

    @property
    def largest(self) -> str:
        """The name of the phase that decides."""
        return max(self.phases, key=lambda name: total(self.phases[name]))

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return total(self.held) + total(self.phases[self.largest])


def estimate_memory(target: TargetSizes, draft: DraftSizes, work: Workload) -> Memory:
    """Device memory of a run, by part."""
    features, activations = _features(target, work), DraftActivations(draft, work)
    return Memory(
        held=_held(target, draft, work),
        forward=() if work.offline else (*_pixels(target, work), *_captured(target, work), *_forward(target, work)),
        loss=(*features, *activations.loss()),
        gradient=(*features, *activations.gradient()),
        update=_update(draft, work),
    )


def weight_bytes(target: TargetSizes, work: Workload) -> int:
    """Bytes of the target's weights that a device holds."""
    values = target.embedding + target.head
    if not work.offline:
        share = work.processes if work.target_sharded else 1
        values += target.decoder // share + (target.vision.parameters if target.vision and not work.llm_only else 0)
    return values * target.value_bytes


def optimizer_bytes(draft: DraftSizes, optimizer: str) -> int:
    """Bytes of optimizer state in float32: one buffer per value for Muon, two for AdamW."""
    muon = draft.muon_parameters if optimizer == "muon" else 0
    return 4 * muon + 8 * (draft.parameters - muon)


def store_bytes(
    target: TargetSizes,
    tokens: int,
    supervised_fraction: float,
    visual_fraction: float = 0.0,
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float8"] = "bfloat16",
) -> int:
    """Bytes on disk of captured features: aux hidden states of all tokens, last hidden states of supervised ones and visual
    embeddings of `visual_fraction` of the tokens. float8 is for aux hidden states, with a scale for each of the three."""
    width = {"auto": target.value_bytes, "float32": 4}.get(dtype, 2)
    aux = 3 * (target.hidden + 4) if dtype == "float8" else 3 * target.hidden * width
    return round(tokens * (aux + target.hidden * width * (supervised_fraction + visual_fraction)))


def _features(target: TargetSizes, work: Workload) -> tuple[Part, ...]:
    """What the target gives the draft for a micro-batch."""
    value = target.hidden * target.value_bytes
    parts = (("aux hidden states", 3 * value * work.tokens), ("last hidden states where supervised", value * work.anchors))
    return (*parts, ("visual embeddings", value * work.image_tokens)) if work.visual and work.image_tokens else parts


def _captured(target: TargetSizes, work: Workload) -> tuple[Part, ...]:
    """Inputs of three layers, and of the first one where the draft reads visual embeddings."""
    inputs = 4 if work.visual and work.image_tokens else 3
    return (("captured hidden states", inputs * target.hidden * work.tokens * target.value_bytes),)


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
    if work.device == "cpu" and work.gradient_accumulation_steps > 1:  # elsewhere they wait in the host's memory
        inputs = _features(target, work) if work.offline or work.fill else _pixels(target, work)
        parts += [
            (f"{name}, of a step's other micro-batches", (work.gradient_accumulation_steps - 1) * size) for name, size in inputs
        ]
    return (*parts, ("context and libraries", OVERHEAD))


def _pixels(target: TargetSizes, work: Workload) -> tuple[Part, ...]:
    """Of a micro-batch, in float32, as the processor makes them."""
    vision = target.vision
    if vision is None or work.llm_only or not work.image_tokens:
        return ()
    return (("pixels", 4 * work.image_tokens * vision.patches_per_token * vision.patch_values),)


def _forward(target: TargetSizes, work: Workload) -> list[Part]:
    """Live at one time: four hidden states and what one MLP holds. The vision tower runs before and leaves its features; in its
    attention 22 values of its width live per patch, rotated queries and keys in float32 among them."""
    width, vision = target.value_bytes, target.vision
    mask = work.batch_size * work.max_length**2 * (1 + width) if work.batch_size > 1 else 0  # none without padding
    parts = [("target's activations", work.tokens * (4 * target.hidden + target.mlp_live) * width + mask)]
    if work.target_sharded and work.processes > 1:
        parts.append(("whole layers of the target, this one and the next", 2 * target.decoder // target.layers * width))
    if vision is None or not work.image_tokens:
        return parts
    patches = work.image_tokens * vision.patches_per_token
    pixels = patches * vision.patch_values * width
    blocks = patches * max(22 * vision.hidden, 3 * vision.hidden + 2 * vision.intermediate) * width
    features = (1 + vision.levels) * work.image_tokens * target.hidden * width
    if pixels + blocks > total(tuple(parts)):
        parts = [("vision tower's activations", pixels + blocks)]
    return [*parts, ("visual features, DeepStack included", features)]


def _update(draft: DraftSizes, work: Workload) -> tuple[Part, ...]:
    """AdamW is fused and needs nothing; Muon goes matrix by matrix, on a GPU in 16 bits."""
    if work.optimizer == "adamw":
        return ()
    largest = max(rows * columns for rows, columns in draft.muon)
    width = 4 if work.device == "cpu" else 2
    return (("Muon's largest matrix", (4 + 3 * width) * largest),)
