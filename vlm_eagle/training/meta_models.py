"""Both models on the meta device: their shapes without their weights."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab


def meta_target(config: PretrainedConfig, dtype: torch.dtype | None = None) -> Any:
    """The model that transformers builds from `config`, on the meta device."""
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config, dtype=dtype, attn_implementation="sdpa")


def meta_draft(config: Eagle3Config) -> Eagle3Draft:
    """A draft on the meta device, with whichever vocabulary of that size."""
    vocab = DraftVocab.from_ids(range(config.draft_vocab_size), config.vocab_size)
    with torch.device("meta"):
        return Eagle3Draft(config, vocab)
