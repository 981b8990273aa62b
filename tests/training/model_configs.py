"""The `config.json` of the targets that scripts/configs/ names, as far as sizes depend on it, so that no test needs a network.

Each stands with its published number of parameters: a wrong value would not add up to it.
"""

from typing import Any


def _text(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, *, theta: float, context: int
) -> dict[str, Any]:
    return {
        "attention_bias": False, "head_dim": 128, "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": intermediate, "max_position_embeddings": context, "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-6, "rope_theta": theta,
        "vocab_size": 151_936,
    }  # fmt: skip


def _qwen3(*sizes: int, tied: bool, theta: float, context: int) -> dict[str, Any]:
    text = _text(*sizes, theta=theta, context=context)
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16", "tie_word_embeddings": tied,
        **text,
    }  # fmt: skip


def _eyes(out: int, *, large: bool) -> dict[str, Any]:
    """The small vision tower (2B and 4B) or the large one (8B and 30B-A3B)."""
    hidden, intermediate, depth, deepstack = (1152, 4304, 27, [8, 16, 24]) if large else (1024, 4096, 24, [5, 11, 17])
    return {
        "deepstack_visual_indexes": deepstack, "depth": depth, "hidden_act": "gelu_pytorch_tanh", "hidden_size": hidden,
        "in_channels": 3, "intermediate_size": intermediate, "num_heads": 16, "num_position_embeddings": 2304,
        "out_hidden_size": out, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip


def _qwen3_vl(*sizes: int, large_eyes: bool, tied: bool, **experts: Any) -> dict[str, Any]:
    kind = "qwen3_vl_moe" if experts else "qwen3_vl"
    text = _text(*sizes, theta=5e6, context=262_144)
    text |= {"model_type": f"{kind}_text", "dtype": "bfloat16", "tie_word_embeddings": tied, **experts}
    text["rope_scaling"] = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return {
        "architectures": ["Qwen3VLMoeForConditionalGeneration" if experts else "Qwen3VLForConditionalGeneration"],
        "model_type": kind, "tie_word_embeddings": tied, "image_token_id": 151_655, "video_token_id": 151_656,
        "vision_start_token_id": 151_652, "vision_end_token_id": 151_653,
        "text_config": text, "vision_config": {"model_type": kind, **_eyes(sizes[0], large=large_eyes)},
    }  # fmt: skip


_EXPERTS = {
    "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": True,
    "num_experts": 128, "num_experts_per_tok": 8,
}  # fmt: skip

# hub id -> (config.json, parameters as published)
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "Qwen/Qwen3-8B": (_qwen3(4096, 12_288, 36, 32, 8, tied=False, theta=1e6, context=40_960), 8_190_735_360),
    "Qwen/Qwen3-4B-Instruct-2507": (
        _qwen3(2560, 9728, 36, 32, 8, tied=True, theta=5e6, context=262_144),
        4_022_468_096,
    ),
    "Qwen/Qwen3-VL-2B-Instruct": (_qwen3_vl(2048, 6144, 28, 16, 8, large_eyes=False, tied=True), 2_127_532_032),
    "Qwen/Qwen3-VL-4B-Instruct": (_qwen3_vl(2560, 9728, 36, 32, 8, large_eyes=False, tied=True), 4_437_815_808),
    "Qwen/Qwen3-VL-8B-Instruct": (_qwen3_vl(4096, 12_288, 36, 32, 8, large_eyes=True, tied=False), 8_767_123_696),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (
        _qwen3_vl(2048, 6144, 48, 32, 4, large_eyes=True, tied=False, **_EXPERTS),
        31_070_754_032,
    ),
}
