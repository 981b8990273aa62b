"""A text-only Qwen3 in seconds: the language tower of the demo target, with its tokenizer.

For text, M-RoPE with three equal rows is plain RoPE, so the tower's weights are those of a Qwen3 that writes the same text.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3VLForConditionalGeneration


def make_text_target(vision_target: Path, folder: Path) -> None:
    """Writes a Qwen3 with the weights of `vision_target`'s language tower to `folder`."""
    vision = Qwen3VLForConditionalGeneration.from_pretrained(vision_target, dtype=torch.bfloat16)
    text: Any = vision.config.text_config
    same = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "max_position_embeddings", "rms_norm_eps", "attention_bias", "eos_token_id", "pad_token_id", "bos_token_id",
    )  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": text.rope_parameters["rope_theta"]}
    config = Qwen3Config(
        **{name: getattr(text, name) for name in same}, rope_parameters=rope,
        tie_word_embeddings=vision.config.tie_word_embeddings,
    )  # fmt: skip
    model: Any = Qwen3ForCausalLM(config)
    model.to(torch.bfloat16)
    model.model.load_state_dict(vision.model.language_model.state_dict())
    model.lm_head.load_state_dict(vision.lm_head.state_dict())
    model.generation_config = vision.generation_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(vision_target)
    tokenizer.save_pretrained(folder)
