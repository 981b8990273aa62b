"""How one sample's features lie in a store: packed tensors, only what training reads, optionally in 8 bits."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlm_eagle.records import TargetFeatures

StoreDtype = Literal["auto", "bfloat16", "float16", "float32", "float8"]
FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class StoredSample:
    """One sample's features up to its last supervised position, without padding.

    Attributes:
        id: the conversation's name.
        input_ids: (T,) int64.
        loss_mask: (T,) bool.
        aux_hidden: (T, 3 * D_target); the last row is never read and therefore zero.
        last_hidden: (A, D_target).
        visual: (I, D_target) or None.
        visual_mask: (T,) bool or None.
    """

    id: str
    input_ids: Tensor
    loss_mask: Tensor
    aux_hidden: Tensor
    last_hidden: Tensor
    visual: Tensor | None = None
    visual_mask: Tensor | None = None


def split(features: TargetFeatures) -> list[StoredSample]:
    """The samples of a batch, on the CPU."""
    answers = features.loss_mask.sum(1).tolist()
    last_hidden = features.last_hidden.cpu().split(answers)
    at = visual = None
    if features.visual is not None and features.visual_mask is not None:
        at = features.visual_mask.cpu()
        visual = features.visual.cpu().split(at.sum(1).tolist())
    samples = []
    for b, mask in enumerate(features.loss_mask.cpu()):
        length = int(mask.nonzero().max()) + 1 if mask.any() else 0
        aux = features.aux_hidden[b, :length].cpu().clone()
        aux[-1:] = 0
        mine = at[b, :length] if at is not None else None
        samples.append(
            StoredSample(
                features.ids[b], features.input_ids[b, :length].cpu(), mask[:length], aux, last_hidden[b],
                visual[b][: int(mine.sum())] if visual is not None and mine is not None else None, mine,
            )
        )  # fmt: skip
    return samples


def join(samples: list[StoredSample], skipped: dict[str, int]) -> TargetFeatures:
    """A right-padded batch of samples. A batch where nobody has visual embeddings has none."""
    longest = max((len(s.input_ids) for s in samples), default=0)

    def pad(values: list[Tensor]) -> Tensor:
        out = values[0].new_zeros(len(values), longest, *values[0].shape[1:])
        for row, value in zip(out, values, strict=True):
            row[: len(value)] = value
        return out

    if not samples:
        empty = torch.zeros(0, 0, dtype=torch.long)
        return TargetFeatures(empty, empty, empty.bool(), empty[..., None], empty, skipped=skipped)
    visual = [s.visual for s in samples if s.visual is not None and len(s.visual)]
    visual_masks = [torch.zeros_like(s.loss_mask) if s.visual_mask is None else s.visual_mask for s in samples]
    return TargetFeatures(
        input_ids=pad([s.input_ids for s in samples]),
        attention_mask=pad([torch.ones_like(s.input_ids) for s in samples]),
        loss_mask=pad([s.loss_mask for s in samples]),
        aux_hidden=pad([s.aux_hidden for s in samples]),
        last_hidden=torch.cat([s.last_hidden for s in samples]),
        visual=torch.cat(visual) if visual else None,
        visual_mask=pad(visual_masks) if visual else None,
        ids=tuple(s.id for s in samples),
        skipped=skipped,
    )


def stored_dtype(name: StoreDtype, own: torch.dtype) -> torch.dtype:
    """What an option means for a target whose hidden states are `own`."""
    return own if name == "auto" else FLOAT8 if name == "float8" else getattr(torch, name)


def packed_tensors(sample: StoredSample, dtype: torch.dtype, visual: bool) -> dict[str, Tensor]:
    """A sample as the tensors of a shard, in `dtype`; `visual` keeps visual embeddings as well."""
    wide = torch.bfloat16 if dtype == FLOAT8 else dtype
    tensors = {
        "input_ids": sample.input_ids, "loss_mask": sample.loss_mask.to(torch.uint8),
        "aux_hidden": sample.aux_hidden.to(wide), "last_hidden": sample.last_hidden.to(wide),
    }  # fmt: skip
    if dtype == FLOAT8:
        tensors["aux_hidden"], tensors["aux_scales"] = to_float8(sample.aux_hidden, parts=3)
    if visual:
        none = torch.zeros(0, sample.aux_hidden.shape[1] // 3)
        tensors["visual"] = (none if sample.visual is None else sample.visual).to(wide)
        mask = torch.zeros_like(sample.loss_mask) if sample.visual_mask is None else sample.visual_mask
        tensors["visual_mask"] = mask.to(torch.uint8)
    return tensors


def to_float8(values: Tensor, parts: int = 1) -> tuple[Tensor, Tensor]:
    """((n, d) in 8 bits, (n, parts) float32 scales): each of `parts` equal parts of a row fills the range of float8 e4m3.
    Hidden states have a few huge channels; one scale for three layers' states would drown the smallest of them."""
    chunks = values.float().unflatten(-1, (parts, -1))
    scales = chunks.abs().amax(-1).clamp_min(1e-12) / torch.finfo(FLOAT8).max
    return (chunks / scales[..., None]).to(FLOAT8).flatten(-2), scales


def from_float8(values: Tensor, scales: Tensor) -> Tensor:
    """(n, d) bfloat16 from what `to_float8` made."""
    parts = scales.shape[-1]
    return (values.float().unflatten(-1, (parts, -1)) * scales[..., None]).flatten(-2).bfloat16()
