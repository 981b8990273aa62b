"""Writes drafts the way others write them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from vlm_eagle.draft.files import expected_shapes


def tensors_of(draft):
    """The tensors of a native file."""
    return {name: t.clone() for name, t in draft.state_dict().items() if name in expected_shapes(draft.config)}


def write(folder, row, tensors, pickled=False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(row))
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    return folder


def row_of(draft, architecture, *drop, **more):
    """A flat config as another trainer would write it."""
    row = draft.config.to_json() | {"architectures": [architecture]} | more
    return {key: value for key, value in row.items() if key not in drop}


def specforge(draft, folder):
    """SpecForge / SGLang: only the nested layer ids, in the output convention; the target's table in the file."""
    row = row_of(
        draft, "LlamaForCausalLMEagle3", "eagle_aux_hidden_state_layer_ids", "target_hidden_size", "fc_norm", "norm_output"
    )
    return write(folder, row, tensors_of(draft))


def model_optimizer(draft, folder):
    tensors = {name.replace("midlayer.", "layers.0."): t for name, t in tensors_of(draft).items()}
    return write(folder, row_of(draft, "LlamaForCausalLMEagle3"), tensors)


def angelslim(draft, folder):
    scaling = {"mrope_section": [6, 5, 5], "mrope_interleaved": True, "rope_type": "default"}
    row = row_of(draft, "Eagle3LlamaForCausalLM", tie_word_embeddings=True, rope_scaling=scaling)
    return write(folder, row, tensors_of(draft))


def angelslim_2_5(draft, folder):
    scaling = {"mrope_section": [6, 5, 5], "type": "mrope"}
    row = row_of(draft, "Eagle3Qwen2_5vlForCausalLM", "rope_scaling", rope_scaling=scaling)
    return write(folder, {**row, "rope_scaling": scaling}, tensors_of(draft))


def safeailab(draft, folder):
    """A pickle, no layer ids, no head_dim, rotary frequencies among the tensors, t2d as numbers."""
    row = row_of(
        draft, "LlamaForCausalLM", "eagle_config", "eagle_aux_hidden_state_layer_ids", "target_hidden_size", "head_dim",
        "norm_before_fc", "has_own_embed_tokens", "torch_dtype",
    )  # fmt: skip
    tensors = tensors_of(draft) | {"midlayer.self_attn.rotary_emb.inv_freq": 10_000.0 ** (-torch.arange(8) / 8)}
    return write(folder, row, tensors | {"t2d": tensors["t2d"].to(torch.uint8)}, pickled=True)


def qwen3_layer(draft, folder):
    tensors = {f"model.{name}" if name.startswith("midlayer") else name: t for name, t in tensors_of(draft).items()}
    return write(folder, row_of(draft, "Eagle3Qwen3ForCausalLM"), tensors)


def shards(folder, places):
    """Splits a model.safetensors in two and writes an index that names `places`."""
    from safetensors.torch import load_file

    file = Path(folder) / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    half = len(tensors) // 2
    parts = dict(list(tensors.items())[:half]), dict(list(tensors.items())[half:])
    weight_map = {}
    for name, part in zip(("model-1.safetensors", "model-2.safetensors"), parts, strict=True):
        save_file(part, Path(folder) / name)
        weight_map |= dict.fromkeys(part, name)
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map | places}))
