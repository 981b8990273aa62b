"""A target and the draft that makes it faster: on one device, in one precision, checked against each other."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_eagle.devices import model_dtype, named_device
from vlm_eagle.draft.fit import check_fit
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.load import load_target
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Pair:
    """What answers prompts.

    Attributes:
        target: the frozen model; it captures what the draft reads.
        draft: on the target's device and in its precision; None for the target alone.

    Raises:
        UserError: the draft was made for another target.
    """

    target: Target
    draft: Eagle3Draft | None = None

    def __post_init__(self) -> None:
        if self.draft is not None:
            check_fit(self.draft.config, self.target.config, self.target.layer_ids)

    @property
    def processor(self) -> ProcessorMixin | PreTrainedTokenizerBase:
        """The target's processor; for a text-only target its tokenizer."""
        return self.target.processor


def load_pair(
    target: str | Path,
    draft: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    llm_only: bool = False,
    revision: str | None = None,
    draft_revision: str | None = None,
) -> Pair:
    """Loads a target with its processor, and a draft for it. No remote code is ever run.

    Args:
        target: folder or hub id of a Qwen3-VL(-MoE) or Qwen3(-MoE) model, or the word `demo`.
        draft: folder or hub id of its draft, in the layout that training writes; None for the target alone.
        device: `auto` is this machine's GPU, else its CPU; `balanced` lays the target's layers over all GPUs.
        dtype: of both, such as `bfloat16`; `auto` is float32 on a CPU and the checkpoint's own elsewhere.
        llm_only: drop a vision target's vision tower after loading.
        revision: of the target, on the hub.
        draft_revision: of the draft, on the hub.

    Raises:
        UserError: no such model or device, a target of another family, or a draft made for another target.
    """
    head = None if draft is None else Eagle3Draft.from_pretrained(draft, revision=draft_revision)  # quick: wrong names show
    place = device if isinstance(device, torch.device) or device == "balanced" else named_device(device)
    layer_ids = None if head is None else head.config.aux_layer_ids
    whole = load_target(
        str(target), dtype=model_dtype(dtype, place), device=place, llm_only=llm_only, layer_ids=layer_ids, revision=revision
    )
    return Pair(whole) if head is None else pair_up(whole, head)


def pair_up(target: Target, draft: Eagle3Draft) -> Pair:
    """A loaded draft with a loaded target. The pair's target shares its model with `target`, but captures the layers that
    this draft reads; the draft is moved to its device and precision.

    Raises:
        UserError: the draft was made for another target.
    """
    view = Target(target.model, target.processor, draft.config.aux_layer_ids)
    return Pair(view, draft.to(target.device, target.embed_tokens.weight.dtype))
