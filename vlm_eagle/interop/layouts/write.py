"""Writes a draft in the layout of an engine or library. The native directory already is what SGLang and vLLM read; what differs
is which options each of them computes."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vlm_eagle.draft import files
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.checks import check_draft
from vlm_eagle.interop.layouts.speculators import Verifier, write_speculators
from vlm_eagle.interop.names import Format

_SGLANG_LACKS = {
    "norm_before_residual": "SGLang has no such option",
    "qk_norm": "SGLang's layer has no norms of queries and keys and would skip them without a word",
    "has_own_embed_tokens": "SGLang puts the target's embeddings in their place",
}
_SPECULATORS_LACKS = {"mrope_section": "the speculators package rotates by one coordinate only"}


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
        assert verifier is not None, "this layout carries the target's embeddings"
        write_speculators(folder, config, tensors, verifier)
    else:
        files.save(folder, config, tensors)
    return _remarks(form, config)


def _remarks(form: Format, config: Eagle3Config) -> list[str]:
    remarks = []
    if config.mrope_section and form in ("vllm", "native"):
        remarks.append(
            "vLLM 0.32 gives a draft the sequence index whatever its config says: expect lower acceptance after an image"
        )
    if replace(config, fc_norm=False, norm_output=False, norm_before_fc=False) != config:
        remarks.append("norms around fc and at the output need vLLM 0.32 or SGLang 0.5.23; older engines ignore them")
    if config.has_own_embed_tokens and form == "native":
        remarks.append("the draft has its own embeddings: vLLM uses them, SGLang does not")
    return remarks
