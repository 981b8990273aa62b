"""Targets and drafts of real proportions with random weights: they write nonsense at real speed."""

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.evaluation.timing.shapes import HEAD_DIM, SHAPES, vocabulary
from vlm_eagle.target.target import Target


def build_pair(name: str, draft_vocab_size: int, dtype: torch.dtype, device: torch.device) -> tuple[Target, Eagle3Draft]:
    """A target of a known shape and its draft. The vision tower is a token one: neither decoding nor text runs it."""
    with torch.device("meta"):
        model = _model(name).to(dtype)
    model = _random(model.to_empty(device=device))
    model.tie_weights()
    _fresh_rotary(model, device)
    target = Target(model.eval()).freeze()
    config = Eagle3Config.for_target(target.config, target.layer_ids, draft_vocab_size)
    vocab = DraftVocab.from_counts(torch.arange(vocabulary(name), 0, -1), draft_vocab_size)
    return target, _random(Eagle3Draft(config, vocab).to(device, dtype))


def _model(name: str) -> PreTrainedModel:
    hidden, intermediate, layers, heads, kv_heads, vision = SHAPES[name]
    text = {
        "vocab_size": vocabulary(name), "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": 64 if name == "tiny" else HEAD_DIM,
        "max_position_embeddings": 40_960,
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 5e6 if vision else 1e6}
    if not vision:
        return Qwen3ForCausalLM(Qwen3Config(**text, rope_parameters=rope, tie_word_embeddings=hidden < 4096))
    rope |= {"mrope_section": [24, 20, 20], "mrope_interleaved": True}
    eyes = {
        "depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": hidden,
        "deepstack_visual_indexes": [0, 1, 2],
    }  # fmt: skip
    config = Qwen3VLConfig(
        text_config={**text, "rope_parameters": rope}, vision_config=eyes, tie_word_embeddings=hidden < 4096,
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config)


def _random(module: nn.Module) -> nn.Module:
    """Small uniform weights, norms of ones: sizes of activations as in a real model."""
    generator = torch.Generator(next(module.parameters()).device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2 and "norm" in name:
            parameter.data.fill_(1.0)
        else:
            parameter.data.uniform_(-0.03, 0.03, generator=generator)
    return module


def _fresh_rotary(model: nn.Module, device: torch.device) -> None:
    """Inverse frequencies are computed when a module is built, and the meta device computes nothing."""
    for module in list(model.modules()):
        if hasattr(module, "inv_freq"):
            argument = getattr(module, "config", None) or 2 * len(module.inv_freq)  # the vision tower's takes its width
            rebuilt = type(module)(argument)
            for name, buffer in rebuilt.named_buffers():
                setattr(module, name, buffer.to(device))
            if hasattr(module, "original_inv_freq"):
                module.original_inv_freq = module.inv_freq
