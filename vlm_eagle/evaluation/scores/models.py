"""Loads one target and the drafts that are measured on it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState
from huggingface_hub import snapshot_download

from vlm_eagle.config import resolve_target
from vlm_eagle.decoding.pair import load_pair, pair_up
from vlm_eagle.devices import default_device
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.provenance import sha256
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class MeasuredPair:
    """A draft and the target as it sees it: all pairs share one model, each captures the layers its draft was trained on.

    Attributes:
        target: captures what the draft reads.
        draft: on the target's device; None is the target alone.
        name: the draft's, as the user gave it.
        digests: of the target's and the draft's files.
        target_name: as the user gave it.
    """

    target: Target
    draft: Eagle3Draft | None
    name: str | None
    digests: tuple[str, str | None]
    target_name: str


def processes() -> PartialState:
    """This process among those of `accelerate launch`, or alone. Some may wait long for the slowest."""
    return PartialState(cpu=default_device().type == "cpu", timeout=timedelta(days=30))


def load_pairs(
    target: str, drafts: list[str], *, dtype: str, device: str, llm_only: bool, state: PartialState
) -> tuple[MeasuredPair, list[MeasuredPair]]:
    """(the target alone, a pair for each draft).

    Args:
        target: folder, hub id or demo.
        drafts: folders or hub ids.
        dtype: of all; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto is this process's own; balanced lays the target over all GPUs.
        llm_only: drop the vision tower.
        state: this process among others.

    Raises:
        UserError: a model or a device that is not there, or a draft made for another target.
    """
    loaded = [Eagle3Draft.from_pretrained(name) for name in drafts]  # first: quick, and wrong names show at once
    place = str(state.device) if device == "auto" else device
    whole = load_pair(target, device=place, dtype=dtype, llm_only=llm_only).target
    digest = model_digest(target, Path(resolve_target(target)))
    pairs = []
    for name, draft in zip(drafts, loaded, strict=True):
        pair = pair_up(whole, draft)
        pairs.append(MeasuredPair(pair.target, pair.draft, name, (digest, model_digest(name, Path(name))), target))
    return MeasuredPair(whole, None, None, (digest, None), target), pairs


def model_digest(name: str, folder: Path) -> str:
    """Of a model's weights and configuration if `folder` is one, else the commit of its copy from the hub."""
    if folder.is_dir():
        return sha256(sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]))
    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=["config.json"])).name
    except (OSError, ValueError):  # not cached after all: the name alone
        return name
