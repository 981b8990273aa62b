"""Writes a draft in the layout of an engine or library. The native directory already is what SGLang and vLLM read; what differs
is which options each of them computes."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor

from vlm_eagle.draft import files
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.errors import UserError
from vlm_eagle.interop.checks import check_draft

Format = Literal["native", "sglang", "vllm", "speculators"]
SPECULATORS_VERSION = "0.9.0"  # the one whose form is written
_SGLANG_LACKS = {
    "norm_before_residual": "SGLang has no such option",
    "qk_norm": "SGLang's layer has no norms of queries and keys and would skip them without a word",
    "own_embeddings": "SGLang puts the target's embeddings in their place",
}
_SPECULATORS_LACKS = {"mrope_section": "the speculators package rotates by one coordinate only"}


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


def write_draft(
    folder: Path, form: Format, config: Eagle3Config, tensors: dict[str, Tensor], verifier: Verifier | None = None
) -> list[str]:
    """Writes `config.json` and `model.safetensors` into an empty folder.

    Args:
        folder: where to.
        form: whose layout.
        config: the draft's.
        tensors: under native names, d2t and t2d only if the vocabulary is not the full one.
        verifier: the target, which only speculators needs.

    Returns:
        What the user should know about serving it.

    Raises:
        UserError: the draft is broken, or uses what that engine does not compute.
    """
    check_draft(config, tensors)
    lacks = {"sglang": _SGLANG_LACKS, "speculators": _SPECULATORS_LACKS}.get(form, {})
    wrong = [f"{option} ({why})" for option, why in lacks.items() if getattr(config, option)]
    if form == "speculators" and config.norm_before_fc and config.fc_norm:
        wrong.append("norm_before_fc with fc_norm (the speculators package takes one of them)")
    if form == "speculators" and config.target_hidden_size != config.hidden_size:
        wrong.append("a width that is not the target's (the speculators package has one for both)")
    if wrong:
        raise UserError(f"This draft cannot be exported for {form}: it uses {'; '.join(wrong)}.")
    if form == "speculators":
        _write_speculators(folder, config, tensors, verifier)
    else:
        files.save(folder, config, tensors)
    return _remarks(form, config)


def speculators_json(config: Eagle3Config, verifier: Verifier, speculative_tokens: int = 3) -> dict[str, Any]:
    """The `config.json` of the speculators package 0.9.0, which vLLM reads too. Layer ids are in the input convention."""
    layer = {
        "model_type": "qwen3" if config.qk_norm else "llama",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
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
        "speculators_version": SPECULATORS_VERSION,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{**proposal, "accept_tolerance": 0.0}],
            "verifier": {"name_or_path": verifier.name, "architectures": verifier.architectures},
        },
        "transformer_layer_config": layer,
        "draft_vocab_size": config.draft_vocab_size,
        "target_hidden_size": config.target_hidden_size,
        "eagle_aux_hidden_state_layer_ids": list(config.aux_layer_ids),
        "norm_before_residual": config.norm_before_residual,
        "norm_before_fc": config.norm_before_fc,
        "fc_norm": config.fc_norm,
        "norm_output": config.norm_output,
        "embed_requires_grad": False,
        "tie_word_embeddings": False,
        "dtype": config.dtype,
    }


def _write_speculators(folder: Path, config: Eagle3Config, tensors: dict[str, Tensor], verifier: Verifier) -> None:
    dtype = tensors["fc.weight"].dtype
    tensors = {"embed_tokens.weight": verifier.embeddings.to(dtype), **tensors}  # unless the draft has its own
    renamed = {name.replace("midlayer.", "layers.0."): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(renamed, folder / files.WEIGHTS, metadata={"format": "pt"})
    (folder / files.CONFIG).write_text(json.dumps(speculators_json(config, verifier), indent=2) + "\n")
    shutil.copymode(folder / files.CONFIG, folder / files.WEIGHTS)


def _remarks(form: Format, config: Eagle3Config) -> list[str]:
    remarks = []
    if config.mrope_section and form in ("vllm", "native"):
        remarks.append(
            "vLLM 0.32 gives a draft the sequence index whatever its config says: expect lower acceptance after an image"
        )
    if replace(config, fc_norm=False, norm_output=False, norm_before_fc=False) != config:
        remarks.append("norms around fc and at the output need vLLM 0.32 or SGLang 0.5.23; older engines ignore them")
    if config.own_embeddings and form == "native":
        remarks.append("the draft has its own embeddings: vLLM uses them, SGLang does not")
    return remarks
