"""The two tables of a target that training needs when its features come from a store: the embedding and lm_head, without
layers."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoProcessor, AutoTokenizer
from transformers.utils.hub import cached_file

from vlm_eagle.errors import UserError
from vlm_eagle.target.load import DEMO_TARGET, VISION_TYPES
from vlm_eagle.target.target import fingerprint

_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
)
_HEADS = ("lm_head.weight",)


class TargetEmbeddings:
    """Stands in for a `Target` where only token embeddings and logits are asked for."""

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
    """Reads only the two tensors out of a target's safetensors files; `name` and `dtype` as in `load_target`.

    Raises:
        UserError: no such model, or no such tensors in it.
    """
    name = str(DEMO_TARGET) if name == "demo" else name
    try:
        whole = AutoConfig.from_pretrained(name, trust_remote_code=False)
        is_vision = whole.model_type in VISION_TYPES
        processor = (AutoProcessor if is_vision else AutoTokenizer).from_pretrained(name, trust_remote_code=False)
        places = _places(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read a target at {name!r}: {str(error).rstrip('.')}. Give a model folder or a hub id."
        ) from error
    embed_tokens = _read(name, places, _EMBEDDINGS)
    if embed_tokens is None:
        raise UserError(f"{name!r} holds none of {', '.join(_EMBEDDINGS)}. Is it a Qwen3 or Qwen3-VL model?")
    kind = embed_tokens.dtype if dtype == "auto" else getattr(torch, dtype)
    embed_tokens = embed_tokens.to(device, kind)
    head = _read(name, places, _HEADS)
    head = embed_tokens if head is None else head.to(device, kind)  # without its own it is tied, and there once
    return TargetEmbeddings(whole.get_text_config(), embed_tokens, head, layer_ids, processor, is_vision)


def _places(name: str) -> dict[str, str]:
    """Tensor name -> file name."""
    index = cached_file(name, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    if index is not None:
        return json.loads(Path(index).read_text())["weight_map"]
    file = cached_file(name, "model.safetensors")
    with safe_open(file, "pt") as source:
        return dict.fromkeys(source.keys(), "model.safetensors")


def _read(name: str, places: dict[str, str], keys: Sequence[str]) -> Tensor | None:
    for key in keys:
        if key in places:
            with safe_open(cached_file(name, places[key]), "pt") as source:
                return source.get_tensor(key)
    return None
