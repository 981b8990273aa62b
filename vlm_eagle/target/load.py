"""Finds out what kind of target a folder or hub id holds, and loads it frozen."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from vlm_eagle.config import DEMO, DEMO_TARGET
from vlm_eagle.errors import UserError
from vlm_eagle.target.probe import check_config, check_decoding, check_parts
from vlm_eagle.target.target import Target

VISION_TYPES = ("qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl")


def load_target(
    name: str,
    *,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device = "cpu",
    llm_only: bool = False,
    layer_ids: Sequence[int] | None = None,
    revision: str | None = None,
) -> Target:
    """Loads a Qwen3-VL(-MoE) or Qwen3(-MoE) target through transformers; no remote code is ever run.

    Args:
        name: a folder, a hub id, or the word `demo`.
        dtype: "auto" keeps the checkpoint's.
        device: where the whole target goes; "balanced" lays its layers over all GPUs (accelerate's device map).
        llm_only: for a vision target, drop the vision tower after loading, so that it cannot run.
        layer_ids: inputs of these layers are the aux hidden states; None for `default_layer_ids`.
        revision: hub revision.

    Raises:
        UserError: nothing there, or a model of another family.
    """
    config = read_config(name, revision)
    name = str(DEMO_TARGET) if name == DEMO else name
    options = {"revision": revision, "trust_remote_code": False}
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()  # a log file is no place for moving bars
    vision = config.model_type in VISION_TYPES
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    try:
        # sdpa: flash attention cannot take the mask of a token tree
        spread = {"device_map": "auto"} if device == "balanced" else {}
        model, report = auto.from_pretrained(
            name, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, output_loading_info=True, **spread, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"Cannot load the target's weights from {name!r}: {str(error).splitlines()[0]}") from error
    _check_complete(report, name)
    check_parts(model, name)
    if vision and llm_only:
        model.model.visual = None
    target = Target(model if spread else model.to(device), load_processor(name, revision), layer_ids).freeze()
    check_decoding(target, name)
    return target


def load_processor(name: str, revision: str | None = None) -> ProcessorMixin | PreTrainedTokenizerBase:
    """The processor of a vision target, the tokenizer of a text-only one; no weights.

    Args:
        name: a folder, a hub id, or the word `demo`.
        revision: hub revision.

    Raises:
        UserError: nothing there, or a model of another family.
    """
    kind = AutoProcessor if read_config(name, revision).model_type in VISION_TYPES else AutoTokenizer
    name = str(DEMO_TARGET) if name == DEMO else name
    try:
        return kind.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot load the target's tokenizer or processor from {name!r}: {error}") from error


def read_config(name: str, revision: str | None = None) -> PretrainedConfig:
    """The config.json of a target, which is all that is read.

    Args:
        name: a folder, a hub id, or the word `demo`.
        revision: hub revision.

    Raises:
        UserError: nothing there, or a model of another family.
    """
    name = str(DEMO_TARGET) if name == DEMO else name
    if name == str(DEMO_TARGET) or name.startswith((".", "/")):
        _must_exist(Path(name))
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read a target at {name!r}: {str(error).rstrip('.')}. Give a model folder or a hub id."
        ) from error
    if config.model_type not in VISION_TYPES and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        supported = ", ".join(VISION_TYPES)
        raise UserError(
            f"{name!r} is a {config.model_type!r} model. Supported: {supported}, and text models of the Llama layout."
        )
    check_config(config, name)
    return config


def _check_complete(report: Mapping[str, Any], name: str) -> None:
    """Refuses a checkpoint without all of the model's tensors: transformers would fill them with random numbers."""
    missing = sorted(key for key in report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"The checkpoint {name!r} lacks the tensor {missing[0]}{more}. Copy or download it again.")


def _must_exist(folder: Path) -> None:
    """A missing folder should be called that, and not be looked up on the hub."""
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist. Give a model folder or a hub id (the demo target lies in the repository).")
