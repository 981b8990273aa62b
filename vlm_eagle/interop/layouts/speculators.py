"""The layout of vLLM's `speculators` package: its configuration read and written."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlm_eagle.config import resolve_target
from vlm_eagle.draft import files
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.errors import UserError
from vlm_eagle.interop.conventions import LAYER_IDS
from vlm_eagle.interop.layouts.flat import FLAGS
from vlm_eagle.target.load import load_embeddings

VERSION = "0.9.0"  # the one whose form is written
_LAYER_FIELDS = (
    "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip


@dataclass(frozen=True)
class Verifier:
    """What the speculators layout holds of the target.

    Attributes:
        name: folder or hub id, which the package loads.
        architectures: of its config.json.
        embeddings: (V, D_target). The package does without them in the file only in theory: 0.9.0 with transformers 5 then
            computes with uninitialised memory. vLLM sees that they are the target's and shares.
    """

    name: str
    architectures: list[str]
    embeddings: Tensor

    @classmethod
    def load(cls, name: str, architectures: list[str] | None, layer_ids: Sequence[int]) -> "Verifier":
        """That of a folder, a hub id or demo; of its weights only the embeddings are read."""
        embeddings = load_embeddings(name, dtype="auto", device=torch.device("cpu"), layer_ids=layer_ids).embed_tokens.weight
        return cls(resolve_target(name), architectures or [], embeddings.detach())


def from_speculators(row: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The flat configuration inside a `speculators` one.

    Raises:
        UserError: another algorithm, or no layer in it.
    """
    if row["speculators_model_type"] != "eagle3":
        raise UserError(f"speculators_model_type is {row['speculators_model_type']!r}; only eagle3 can be decoded.")
    layer = row.get("transformer_layer_config")
    if not isinstance(layer, dict):
        raise UserError("config.json has no transformer_layer_config.")
    if row.get("norm_before_residual") is None:
        notes.append("norm_before_residual is not given: taken as true, as vLLM does (the speculators package takes false)")
        row = {**row, "norm_before_residual": True}
    kept = {key: row[key] for key in (*FLAGS, LAYER_IDS, "draft_vocab_size", "target_hidden_size") if key in row}
    return {**layer, **kept, "tie_word_embeddings": False}


def speculators_json(config: Eagle3Config, verifier: Verifier, speculative_tokens: int = 3) -> dict[str, Any]:
    """The `config.json` of the speculators package 0.9.0, which vLLM reads too. Layer ids are in the input convention."""
    layer = {
        "model_type": "qwen3" if config.qk_norm else "llama",
        **{name: getattr(config, name) for name in _LAYER_FIELDS},
        "num_hidden_layers": 1,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    proposal = {"proposal_type": "greedy", "speculative_tokens": speculative_tokens, "verifier_accept_k": 1}
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_version": VERSION,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{**proposal, "accept_tolerance": 0.0}],
            "verifier": {"name_or_path": verifier.name, "architectures": verifier.architectures},
        },
        "transformer_layer_config": layer,
        "draft_vocab_size": config.draft_vocab_size,
        "target_hidden_size": config.target_hidden_size,
        LAYER_IDS: list(config.aux_layer_ids),
        **{flag: getattr(config, flag) for flag in FLAGS},
        "embed_requires_grad": False,
        "tie_word_embeddings": False,
        "dtype": config.dtype,
    }


def write_speculators(folder: Path, config: Eagle3Config, tensors: dict[str, Tensor], verifier: Verifier) -> None:
    """Both files into a folder; tensors come under native names."""
    dtype = tensors["fc.weight"].dtype
    tensors = {"embed_tokens.weight": verifier.embeddings.to(dtype), **tensors}  # unless the draft has its own
    renamed = {name.replace("midlayer.", "layers.0."): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(renamed, folder / files.WEIGHTS, metadata={"format": "pt"})
    (folder / files.CONFIG).write_text(json.dumps(speculators_json(config, verifier), indent=2) + "\n")
    shutil.copymode(folder / files.CONFIG, folder / files.WEIGHTS)
