"""What a draft must fulfil before it is written or served: tensors against configuration, configuration against target."""

import torch
from torch import Tensor
from transformers import PretrainedConfig

from vlm_eagle.draft.config import Eagle3Config, mrope, rope_theta
from vlm_eagle.draft.files import check_dtypes, check_shapes, expected_shapes
from vlm_eagle.draft.fit import misfits
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError


def check_draft(config: Eagle3Config, tensors: dict[str, Tensor]) -> None:
    """Key set, shapes, dtypes, agreement of d2t and t2d, no NaN or infinity.

    Raises:
        UserError: the first of these that does not hold.
    """
    check_shapes(tensors, expected_shapes(config))
    check_dtypes(tensors)
    bad = [name for name, t in sorted(tensors.items()) if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise UserError(f"NaN or infinity in {', '.join(bad)}. Such a draft proposes nothing useful: its training diverged.")
    if "d2t" in tensors:
        DraftVocab(tensors["d2t"], tensors["t2d"]).check(config.draft_vocab_size, config.vocab_size)


def check_target(config: Eagle3Config, target: PretrainedConfig, name: str) -> list[str]:
    """Compares with the target's config.json.

    Returns:
        Differences that a draft may have been trained with, but that usually are mistakes.

    Raises:
        UserError: width, vocabulary or layer ids do not fit: the pair cannot work.
    """
    text = target.get_text_config()
    wrong = misfits(config, text)
    ids = config.aux_layer_ids
    if list(ids) != sorted(set(ids)) or ids[-1] >= text.num_hidden_layers:
        wrong.append(f"aux layer ids {ids} (target: ascending numbers in 0..{text.num_hidden_layers - 1})")
    if wrong:
        raise UserError(f"The draft does not fit {name}: {'; '.join(wrong)}.")
    pairs = {
        "rope_theta": (config.rope_theta, rope_theta(text)),
        "max_position_embeddings": (config.max_position_embeddings, text.max_position_embeddings),
        "rms_norm_eps": (config.rms_norm_eps, text.rms_norm_eps),
    }
    if config.mrope_section:
        pairs["M-RoPE"] = ((config.mrope_section, config.mrope_interleaved), mrope({"rope_scaling": text.rope_parameters}))
    return [f"{key}: the draft has {ours}, {name} has {theirs}" for key, (ours, theirs) in pairs.items() if ours != theirs]
