"""Reads a draft directory with all its faults; `draft/files.py` would refuse it at the first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vlm_eagle.doctor.findings import Finding, error, warning
from vlm_eagle.draft.files import CONFIG, fetch, read_json, read_safetensors
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.tensor_files import native_name

_LARGEST = 1e300  # of a number; JSON also holds infinities, NaN and integers that no float does


@dataclass
class RawDraft:
    """The contents of a draft directory.

    Attributes:
        folder: the directory.
        config: `config.json`, a nested `transformer_layer_config` laid flat; empty when unreadable.
        tensors: by native name.
        findings: problems met while reading it.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def number(self, key: str) -> float | None:
        """A value of the configuration if it is a finite number."""
        return as_number(self.config.get(key))

    def flag(self, key: str) -> bool:
        """Whether the configuration sets a switch."""
        return bool(self.config.get(key))

    def shape(self, name: str, dimensions: int = 2) -> tuple[int, ...] | None:
        """The shape of a tensor that exists and has this number of dimensions."""
        tensor = self.tensors.get(name)
        return tuple(tensor.shape) if tensor is not None and tensor.ndim == dimensions else None


def as_number(value: object) -> float | None:
    """`value` if it is a finite number."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST else None


def read_raw(name: str | Path) -> RawDraft:
    """Whatever can be read of a draft, from a folder or a hub id.

    Raises:
        UserError: there is neither.
    """
    draft = RawDraft(fetch(name, patterns=(CONFIG, "*.safetensors")))
    _read_config(draft)
    _read_tensors(draft)
    return draft


def _read_config(draft: RawDraft) -> None:
    try:
        config = read_json(draft.folder / CONFIG)
    except UserError as failure:
        why = "Without it no engine knows what the tensors are."
        draft.findings.append(error("config-unreadable", str(failure), why, "Copy or download the draft again."))
        return
    layer = config.get("transformer_layer_config")
    draft.config = {**layer, **config} if isinstance(layer, dict) else config


def _read_tensors(draft: RawDraft) -> None:
    files = sorted(draft.folder.glob("*.safetensors"))
    if not files:
        pickles = ", ".join(sorted(file.name for file in draft.folder.glob("*.bin")))
        what = f"There is no safetensors file{f', only {pickles}' if pickles else ''}."
        fix = "Convert it with vlm-eagle import." if pickles else "Give the folder that training wrote."
        why = "Weights are read from safetensors alone; a pickle may run code."
        draft.findings.append(error("weights-missing", what, why, fix))
    raw: dict[str, Tensor] = {}
    for file in files:
        try:
            raw |= read_safetensors(file)
        except UserError as failure:
            why = "The file is truncated or not a safetensors file."
            draft.findings.append(error("weights-unreadable", str(failure), why, "Copy or download the draft again."))
    draft.tensors = {native_name(name): tensor for name, tensor in raw.items()}
    foreign = sorted(name for name in raw if native_name(name) != name)
    if foreign and "speculators_model_type" not in draft.config:
        what = f"{len(foreign)} tensors have names of another layout, such as {foreign[0]}."
        why = "SGLang skips names it does not know without a word and serves random weights."
        draft.findings.append(warning("tensor-names", what, why, "Bring it into the native layout with vlm-eagle import."))
