"""Loads a target frozen, or only its configuration, its processor, or its two embedding tables; no remote code is ever run."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils.hub import cached_file

from vlm_eagle.config import DEMO_TARGET, resolve_target
from vlm_eagle.errors import UserError
from vlm_eagle.target.probe import check_config, check_decoding, check_parts
from vlm_eagle.target.target import Target, fingerprint

VISION_TYPES = ("qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl")
_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
)


def load_target(
    name: str,
    *,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device = "cpu",
    llm_only: bool = False,
    layer_ids: Sequence[int] | None = None,
    revision: str | None = None,
) -> Target:
    """Loads a Qwen3-VL(-MoE) or Qwen3(-MoE) target through transformers.

    Args:
        name: a folder, a hub id, or the word `demo`, as in all functions of this file.
        dtype: "auto" keeps the checkpoint's.
        device: where the whole target goes; "balanced" spreads its layers over all GPUs (accelerate's device map).
        llm_only: for a vision target, drop the vision tower after loading, so that it cannot run.
        layer_ids: inputs of these layers are the aux hidden states; None for `default_layer_ids`.
        revision: hub revision.

    Raises:
        UserError: no such model, or a model of another family; so do the other functions of this file.
    """
    vision = read_config(name, revision).model_type in VISION_TYPES
    name = resolve_target(name)
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()  # moving bars would fill a log file
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    device_map = {"device_map": "auto"} if device == "balanced" else {}
    try:
        # sdpa: flash attention cannot take the mask of a token tree
        loaded: Any = auto.from_pretrained(
            name, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, output_loading_info=True, revision=revision,
            trust_remote_code=False, **device_map,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"Cannot load the target's weights from {name!r}: {str(error).splitlines()[0]}") from error
    model, report = loaded
    _check_complete(report, name)
    check_parts(model, name)
    if vision and llm_only:
        model.model.visual = None
    target = Target(model if device_map else model.to(device), load_processor(name, revision), layer_ids).freeze()
    check_decoding(target, name)
    return target


def load_processor(name: str, revision: str | None = None) -> ProcessorMixin | PreTrainedTokenizerBase:
    """The processor of a vision target, the tokenizer of a text-only one; no weights."""
    auto = AutoProcessor if read_config(name, revision).model_type in VISION_TYPES else AutoTokenizer
    try:
        return auto.from_pretrained(resolve_target(name), revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot load the target's tokenizer or processor from {name!r}: {error}") from error


def read_config(name: str, revision: str | None = None) -> PretrainedConfig:
    """The config.json of a target, which is all that is read."""
    name = resolve_target(name)
    if (name == str(DEMO_TARGET) or name.startswith((".", "/"))) and not Path(name).is_dir():  # do not ask the hub for it
        raise UserError(f"{name} does not exist. Give a model folder or a hub id (the demo target is part of the repository).")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if config.model_type not in VISION_TYPES and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        supported = ", ".join(VISION_TYPES)
        raise UserError(
            f"{name!r} is a {config.model_type!r} model. Supported: {supported}, and text models of the Llama layout."
        )
    check_config(config, name)
    return config


def _check_complete(report: Mapping[str, Any], name: str) -> None:
    """Refuses a checkpoint without all of the model's tensors: transformers would fill them with random numbers."""
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"The checkpoint {name!r} lacks the tensor {missing[0]}{more}. Copy or download it again.")


class TargetEmbeddings:
    """Replaces a `Target` where only token embeddings and logits are needed: when training reads features from a store."""

    def __init__(self, config, embed_tokens: Tensor, lm_head: Tensor, layer_ids: Sequence[int], processor, is_vision: bool):
        self.config, self.layer_ids, self.processor, self.is_vision = config, tuple(layer_ids), processor, is_vision
        self.embed_tokens = nn.Embedding.from_pretrained(embed_tokens, freeze=True)
        self.lm_head_weight = lm_head

    @property
    def fingerprint(self) -> str:
        """Equal to that of the whole `Target`."""
        return fingerprint(self.config, self.embed_tokens.weight, self.lm_head_weight)

    def logits(self, last_hidden: Tensor) -> Tensor:
        """(..., V) float32 from the normed final hidden state (..., D_target)."""
        return (last_hidden.to(self.lm_head_weight.dtype) @ self.lm_head_weight.T).float()


def load_embeddings(name: str, *, dtype: str, device: torch.device, layer_ids: Sequence[int]) -> TargetEmbeddings:
    """Reads only the embedding and lm_head out of a target's safetensors files; `dtype` as in `load_target`."""
    config, processor, name = read_config(name), load_processor(name), resolve_target(name)
    try:
        files = _files_by_tensor(name)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    key = next((key for key in _EMBEDDINGS if key in files), None)
    if key is None:
        raise UserError(f"{name!r} has none of the tensors {', '.join(_EMBEDDINGS)}. Is it a Qwen3 or Qwen3-VL model?")
    embed_tokens = _read_tensor(name, files, key)
    embed_tokens = embed_tokens.to(device, embed_tokens.dtype if dtype == "auto" else getattr(torch, dtype))
    lm_head = embed_tokens  # tied, unless the files have one
    if "lm_head.weight" in files:
        lm_head = _read_tensor(name, files, "lm_head.weight").to(device, embed_tokens.dtype)
    is_vision = config.model_type in VISION_TYPES
    return TargetEmbeddings(config.get_text_config(), embed_tokens, lm_head, layer_ids, processor, is_vision)


def _files_by_tensor(name: str) -> dict[str, str]:
    index = cached_file(name, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    if index is not None:
        return json.loads(Path(index).read_text())["weight_map"]
    with safe_open(cached_file(name, "model.safetensors"), "pt") as tensors:
        return dict.fromkeys(tensors.keys(), "model.safetensors")


def _read_tensor(name: str, files: dict[str, str], key: str) -> Tensor:
    with safe_open(cached_file(name, files[key]), "pt") as tensors:
        return tensors.get_tensor(key)


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(f"Cannot read a target at {name!r}: {str(error).rstrip('.')}. Give a model folder or a hub id.")
