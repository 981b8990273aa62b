"""A draft on disk: `config.json` + `model.safetensors`, key set and shapes checked in both directions, because SGLang silently
skips tensor names that it does not know."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm_eagle.draft.config import DTYPES, Eagle3Config
from vlm_eagle.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_JSON = 1_000_000  # bytes


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
    if config.has_own_embed_tokens:
        shapes["embed_tokens.weight"] = (v, d)
    if config.qk_norm:
        shapes |= {f"midlayer.self_attn.{name}_norm.weight": (config.head_dim,) for name in "qk"}
    if config.norm_before_fc:
        shapes["input_norm.weight"] = (3 * config.target_hidden_size,)
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
        shutil.copymode(Path(scratch) / CONFIG, Path(scratch) / WEIGHTS)  # safetensors lets only the owner read it
        for name in (WEIGHTS, CONFIG):
            shutil.move(Path(scratch) / name, folder / name)


def load(name: str | Path, revision: str | None = None) -> tuple[Eagle3Config, dict[str, Tensor]]:
    """Configuration and tensors from a folder or a hub id. Only safetensors are read."""
    folder = fetch(name, revision)
    raw = read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS}, so it is not a draft in the native layout. If others made it, run vlm-eagle import."
        )
    try:
        config = Eagle3Config.from_json(raw)
        tensors = read_safetensors(folder / WEIGHTS)
        check_shapes(tensors, expected_shapes(config))
        check_dtypes(tensors)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return config, tensors


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file that others may have written. Raises UserError if it is missing, not a JSON object, or larger
    than 1 MB (checked before it is read)."""
    if not file.is_file():
        raise UserError(f"{file.parent} has no {file.name}, so it is not a draft in the native layout.")
    if file.stat().st_size > MAX_JSON:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes; more than {MAX_JSON:,} is no configuration. Not read.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, numbers too long, brackets too deep
        raise UserError(f"{file}: unreadable or truncated file: {error}. Copy or download the draft again.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{file} is not a JSON object.")
    return raw


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises UserError if it is missing, truncated or not in safetensors format."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{file}: unreadable or truncated file: {error}. Copy or download the draft again.") from error


def check_dtypes(tensors: dict[str, Tensor]) -> None:
    """Raises UserError unless weights have supported float types, d2t is int64 and t2d bool."""
    kinds = {"d2t": (torch.int64,), "t2d": (torch.bool,)}
    floats = tuple(getattr(torch, name) for name in DTYPES)
    wrong = [f"{name} {t.dtype}" for name, t in sorted(tensors.items()) if t.dtype not in kinds.get(name, floats)]
    if wrong:
        raise UserError(f"The draft's tensors have wrong dtypes: {', '.join(wrong)}. Weights are {', '.join(DTYPES)}.")


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


def fetch(name: str | Path, revision: str | None = None, patterns: Sequence[str] = (CONFIG, WEIGHTS)) -> Path:
    """The folder of a draft: the one named, or the hub's files of these patterns in Hugging Face's cache (HF_HOME, HF_TOKEN,
    HF_HUB_OFFLINE). Raises UserError if there is neither."""
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/")):
        wrong = "is a file, not a folder" if Path(name).exists() else "does not exist"
        raise UserError(f"{name} {wrong}. Train a draft first (make demo makes outputs/demo/draft), or give a hub id.")
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"No draft at {str(name)!r}: it is not a folder, it is not in Hugging Face's cache, and the hub cannot be reached "
            "or HF_HUB_OFFLINE is set. Download it where there is a network, or give a folder."
        ) from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise UserError(f"No draft at {str(name)!r}: it is not a folder, and the hub answered: {error}") from error
