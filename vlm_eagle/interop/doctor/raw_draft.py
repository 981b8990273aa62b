"""A draft directory as it lies there, faults and all: where `draft/files.py` refuses, the doctor has to look on."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlm_eagle.errors import UserError
from vlm_eagle.interop.doctor.findings import Finding, error, warning

_LARGEST_CONFIG = 2**20  # bytes
_PREFIXES = (("model.", ""), ("layers.0.", "midlayer."))  # other layouts' names, made ours


@dataclass
class RawDraft:
    """What lies in a draft directory.

    Attributes:
        folder: where.
        config: `config.json`, a nested `transformer_layer_config` laid flat; empty when unreadable.
        tensors: by native name.
        findings: what was wrong already in reading it.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def number(self, key: str) -> float | None:
        """A value of the configuration if it is a number."""
        value = self.config.get(key)
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def flag(self, key: str) -> bool:
        """Whether the configuration sets a switch."""
        return bool(self.config.get(key))

    def shape(self, name: str, dimensions: int = 2) -> tuple[int, ...] | None:
        """Of a tensor, if it is there and has so many dimensions."""
        tensor = self.tensors.get(name)
        return tuple(tensor.shape) if tensor is not None and tensor.ndim == dimensions else None


def read_raw(name: str | Path, revision: str | None = None) -> RawDraft:
    """Whatever can be read of a draft.

    Raises:
        UserError: there is no such folder, nor a repository on the hub.
    """
    draft = RawDraft(_folder(name, revision))
    _read_config(draft)
    _read_tensors(draft)
    return draft


def _folder(name: str | Path, revision: str | None) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/")):
        raise UserError(f"{name} does not exist. Give the folder of a draft, or a hub id.")
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=["config.json", "*.safetensors"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as failure:
        raise UserError(f"No draft at {str(name)!r}: it is no folder, and the hub answered: {failure}") from failure


def _read_config(draft: RawDraft) -> None:
    file, why = draft.folder / "config.json", "Without it no engine knows what the tensors are."
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, which no configuration has")
        config = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}, not an object")
    except (OSError, ValueError, RecursionError) as failure:
        draft.findings.append(error("config-unreadable", f"config.json: {failure}.", why, "Copy or download the draft again."))
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
            raw |= load_file(file)
        except (SafetensorError, OSError, ValueError) as failure:
            what, why = f"{file.name}: {failure}.", "The file is truncated or no safetensors file."
            draft.findings.append(error("weights-unreadable", what, why, "Copy or download the draft again."))
    draft.tensors = {_native(name): tensor for name, tensor in raw.items()}
    foreign = sorted(name for name in raw if _native(name) != name)
    if foreign and "speculators_model_type" not in draft.config:
        what = f"{len(foreign)} tensors have names of another layout, such as {foreign[0]}."
        why = "SGLang skips names it does not know without a word and serves random weights."
        draft.findings.append(warning("tensor-names", what, why, "Bring it into the native layout with vlm-eagle import."))


def _native(name: str) -> str:
    for foreign, ours in _PREFIXES:
        if name.startswith(foreign):
            name = ours + name.removeprefix(foreign)
    return name
