"""Converts other projects' `config.json`. Values that one leaves out are those that the engines take (`conventions.py`) or, for
plain sizes, those of transformers' LlamaConfig."""

from typing import Any

from torch import Tensor

from vlm_eagle.draft.config import ARCHITECTURES
from vlm_eagle.errors import UserError
from vlm_eagle.interop.conventions import DEFAULT_ROPE_THETA, LAYER_IDS, default_engine_layer_ids, inputs_of

LAYOUTS = {  # architecture -> whose it is
    "LlamaForCausalLMEagle3": "SpecForge / SGLang",
    "Eagle3LlamaForCausalLM": "AngelSlim / vLLM",
    "Eagle3Qwen3vlForCausalLM": "AngelSlim / vLLM",
    "Eagle3Qwen2_5vlForCausalLM": "AngelSlim / vLLM",
    "Eagle3Qwen3ForCausalLM": "vLLM, Qwen3 layer",
    "LlamaForCausalLM": "SafeAILab",
}
_LARGEST = 2**24  # sizes above it are refused, because memory is allocated by them
FLAGS = ("fc_norm", "norm_output", "norm_before_fc", "norm_before_residual")


def flat_layout(row: dict[str, Any]) -> str:
    """Whose flat layout this is.

    Raises:
        UserError: another architecture.
    """
    named = row.get("architectures")
    if named not in [[architecture] for architecture in LAYOUTS]:
        raise UserError(f"config.json names architectures {named}. EAGLE-3 drafts that can be read: {', '.join(LAYOUTS)}.")
    return LAYOUTS[named[0]]


def native_row(row: dict[str, Any], tensors: dict[str, Tensor], num_layers: int | None, notes: list[str]) -> dict[str, Any]:
    """The native `config.json` (`Eagle3Config.from_json`) of a flat one whose tensors have our names already; the dtype is
    left to the caller.

    Raises:
        UserError: a missing value, or an option that this head does not have.
    """
    _refuse_unknown(row, tensors)
    heads, hidden = _size(row, "num_attention_heads"), _size(row, "hidden_size")
    vocab = _size(row, "vocab_size")
    head = tensors.get("lm_head.weight")
    nested = row.get("eagle_config") or {}
    native = {
        "architectures": [ARCHITECTURES["midlayer.self_attn.q_norm.weight" in tensors][1]],
        "hidden_size": hidden,
        "intermediate_size": _size(row, "intermediate_size"),
        "num_attention_heads": heads,
        "num_key_value_heads": _size(row, "num_key_value_heads", heads),
        "head_dim": _size(row, "head_dim", max(hidden // heads, 1)),
        "vocab_size": vocab,
        "draft_vocab_size": _size(row, "draft_vocab_size", len(head) if head is not None and head.ndim == 2 else vocab),
        "target_hidden_size": _size(row, "target_hidden_size", _fused_width(tensors) or hidden),
        "rope_theta": _rope_theta(row, notes),
        "max_position_embeddings": _size(row, "max_position_embeddings", 2048),
        "rms_norm_eps": row.get("rms_norm_eps") or 1e-6,
        "rope_scaling": row.get("rope_scaling") or row.get("rope_parameters"),
        "has_own_embed_tokens": "embed_tokens.weight" in tensors,
        LAYER_IDS: _layer_ids(row, num_layers, notes),
        **{flag: row[flag] for flag in FLAGS if row.get(flag) is not None},
    }
    if nested.get("norm_before_fc") is not None:  # which vLLM prefers
        native["norm_before_fc"] = nested["norm_before_fc"]
    return native


def _refuse_unknown(row: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    for key in ("eagle_config", "rope_scaling", "rope_parameters"):
        if not isinstance(row.get(key) or {}, dict):
            raise UserError(f"config.json: {key} must be an object, found {row[key]!r}.")
    biases = sorted(name for name in tensors if name.endswith(".bias"))
    if biases or row.get("attention_bias"):
        raise UserError(f"the draft's layer has biases ({', '.join(biases) or 'attention_bias'}), which ours does not compute.")
    wanted = {"num_hidden_layers": 1, "hidden_act": "silu", "logit_scale": 1, "use_sliding_window": False}
    for key, value in wanted.items():
        if row.get(key) is not None and row[key] != value:
            raise UserError(f"config.json sets {key} = {row[key]!r}; this version decodes only {value!r}.")
    kinds = row.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise UserError(f"config.json sets layer_types {kinds!r}; this version decodes only full_attention.")
    if (row.get("eagle_config") or {}).get("use_aux_hidden_state") is False:
        raise UserError("config.json sets use_aux_hidden_state = false: an EAGLE-1 or EAGLE-2 draft, not an EAGLE-3 one.")


def _size(row: dict[str, Any], key: str, default: int | None = None) -> int:
    value = default if row.get(key) is None else row[key]
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise UserError(f"config.json: {key} must be a whole number from 1 to {_LARGEST:,}, found {row.get(key)!r}.")
    return value


def _fused_width(tensors: dict[str, Tensor]) -> int | None:
    """D_target as fc says it; a config without target_hidden_size says nothing."""
    fc = tensors.get("fc.weight")
    return fc.shape[1] // 3 if fc is not None and fc.ndim == 2 else None


def _rope_theta(row: dict[str, Any], notes: list[str]) -> Any:
    for place in (row, row.get("rope_parameters") or {}, row.get("rope_scaling") or {}):
        if place.get("rope_theta") is not None:
            return place["rope_theta"]
    notes.append("rope_theta is not given: taken as 10000, as the engines do")
    return DEFAULT_ROPE_THETA


def _layer_ids(row: dict[str, Any], num_layers: int | None, notes: list[str]) -> list[int]:
    """Ids in the input convention: vLLM's top-level key as it is, SGLang's nested one plus one, else the engines' default."""
    inputs, outputs = row.get(LAYER_IDS), (row.get("eagle_config") or {}).get(LAYER_IDS)
    for ids in (inputs, outputs):
        if ids is not None and not (isinstance(ids, list) and all(type(i) is int for i in ids)):
            raise UserError(f"config.json: {LAYER_IDS} must be a list of numbers, found {ids!r}.")
    if inputs:
        if outputs and list(inputs_of(outputs)) != inputs:
            notes.append(
                f"layer ids: vLLM reads {inputs}, SGLang reads {list(inputs_of(outputs))} (inputs); took vLLM's. If acceptance "
                "is near 1, the other was meant"
            )
        return inputs
    if outputs:
        return list(inputs_of(outputs))
    if num_layers is None:
        raise UserError(
            "config.json names no aux layers, so the engines take (2, L // 2, L - 3) for a target of L layers. Give the target "
            "(--target) so that L is known."
        )
    ids = list(default_engine_layer_ids(num_layers))
    notes.append(f"config.json names no aux layers: the engines' default for {num_layers} layers, {ids}")
    return ids
