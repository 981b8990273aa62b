"""Ready settings: which of the configurations that come with this repository is for a target of this shape."""

from pathlib import Path

import yaml
from transformers import PretrainedConfig

# model_type, hidden_size, num_hidden_layers of the models that the configurations name. Whatever the hub id or the folder of a
# fine-tune is called, it keeps them.
SHAPES = {
    "Qwen/Qwen3-4B-Instruct-2507": ("qwen3", 2560, 36),
    "Qwen/Qwen3-8B": ("qwen3", 4096, 36),
    "Qwen/Qwen3-VL-2B-Instruct": ("qwen3_vl", 2048, 28),
    "Qwen/Qwen3-VL-4B-Instruct": ("qwen3_vl", 2560, 36),
    "Qwen/Qwen3-VL-8B-Instruct": ("qwen3_vl", 4096, 36),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": ("qwen3_vl_moe", 2048, 48),
}


def find_ready(configs: Path, target: PretrainedConfig) -> tuple[Path, str] | None:
    """(file in the folder `configs`, the model it was written for) for a target with this config.json; None if none was."""
    text = target.get_text_config()
    shape = (target.model_type, text.hidden_size, text.num_hidden_layers)
    for file in sorted(configs.glob("*.yaml")):
        model = yaml.safe_load(file.read_text(encoding="utf-8"))["target"]
        if SHAPES.get(model) == shape:
            return file, model
    return None


def ready_line(configs: Path, target: PretrainedConfig, used: str | None) -> str | None:
    """What to say of ready settings to a user whose `--config` is `used`; None where they know of them or there are none."""
    known = used is not None and Path(used).resolve().parent == configs.resolve()
    if known or (found := find_ready(configs, target)) is None:
        return None
    file, model = found
    return f"There are ready settings for targets of this size ({model}). Begin the options with --config {file.stem}"
