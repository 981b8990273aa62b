"""A draft on disk: `config.json` + `model.safetensors`, key set and shapes checked in both directions.

SGLang skips tensor names it does not know without a word, so a misnamed tensor would only show as a poor acceptance length.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def expected_shapes(config: Eagle3Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of the native layout with its shape; the vocabulary maps only when they are not the identity."""
    d, i, v, w = config.hidden_size, config.intermediate_size, config.vocab_size, config.draft_vocab_size
    q, kv = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (d, 3 * config.target_hidden_size),
        "midlayer.hidden_norm.weight": (d,),
        "midlayer.input_layernorm.weight": (d,),
        "midlayer.post_attention_layernorm.weight": (d,),
        "midlayer.self_attn.q_proj.weight": (q, 2 * d),
        "midlayer.self_attn.k_proj.weight": (kv, 2 * d),
        "midlayer.self_attn.v_proj.weight": (kv, 2 * d),
        "midlayer.self_attn.o_proj.weight": (d, q),
        "midlayer.mlp.gate_proj.weight": (i, d),
        "midlayer.mlp.up_proj.weight": (i, d),
        "midlayer.mlp.down_proj.weight": (d, i),
        "norm.weight": (d,),
        "lm_head.weight": (w, d),
    }
    if config.fc_norm:
        shapes |= {f"fc_norm.{i}.weight": (config.target_hidden_size,) for i in range(3)}
    if w < v:
        shapes |= {"d2t": (w,), "t2d": (v,)}
    return shapes


def save(folder: Path, config: Eagle3Config, state: dict[str, Tensor]) -> None:
    """Writes both files, each atomically and the weights first, so a reader never meets half a draft."""
    shapes, dtype = expected_shapes(config), getattr(torch, config.dtype)
    kept = {name: value for name, value in state.items() if name in shapes or name not in ("d2t", "t2d")}
    check_shapes(kept, shapes)
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in kept.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        save_file(tensors, Path(scratch) / WEIGHTS, metadata={"format": "pt"})
        (Path(scratch) / CONFIG).write_text(json.dumps(config.to_json(), indent=2) + "\n")
        for name in (WEIGHTS, CONFIG):
            shutil.move(Path(scratch) / name, folder / name)


def load(name: str | Path, revision: str | None = None) -> tuple[Eagle3Config, dict[str, Tensor]]:
    """Configuration and tensors from a folder or a hub id. Only safetensors are read."""
    folder = _folder(name, revision)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise UserError(f"{folder} has no {file}, so it is not a draft in the native layout.")
    try:
        config = Eagle3Config.from_json(json.loads((folder / CONFIG).read_text()))
        tensors = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise UserError(f"{folder}: unreadable or truncated file: {error}. Copy or download the draft again.") from error
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    check_shapes(tensors, expected_shapes(config))
    return config, tensors


def check_shapes(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError unless names and shapes are exactly the expected ones."""
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    wrong = [
        f"{n} {tuple(tensors[n].shape)} instead of {s}" for n, s in shapes.items() if n in tensors and tensors[n].shape != s
    ]
    if missing or unknown or wrong:
        raise UserError(
            "The draft's tensors do not match its configuration: "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}, wrong shape {wrong or 'none'}."
        )


def _folder(name: str | Path, revision: str | None) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/")):
        raise UserError(f"{name} does not exist. Train a draft first (make demo makes outputs/demo/draft), or give a hub id.")
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"No draft at {str(name)!r}: it is no folder, and the hub answered: {error}") from error
