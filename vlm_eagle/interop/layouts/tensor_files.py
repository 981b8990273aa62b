"""Tensors from folders that others wrote. Nothing in a file is executed, and no path leads out of its folder."""

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from vlm_eagle.draft.files import CONFIG, WEIGHTS, read_json, read_safetensors
from vlm_eagle.errors import UserError

INDEX, PICKLE = "model.safetensors.index.json", "pytorch_model.bin"
PATTERNS = (CONFIG, WEIGHTS, INDEX, "model-*.safetensors", PICKLE)  # what is fetched from the hub


def native_name(name: str) -> str:
    """Our name of a tensor that others call `model.midlayer.*` or `layers.0.*`."""
    return name.removeprefix("model.").replace("layers.0.", "midlayer.", 1)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a draft: one safetensors file, else its shards, else `pytorch_model.bin`.

    Raises:
        UserError: none of these, or one that is truncated, leads elsewhere, or holds more than tensors.
    """
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if (folder / PICKLE).is_file():
        return _read_pickle(folder / PICKLE)
    raise UserError(f"{folder} has neither {WEIGHTS} nor {INDEX} nor {PICKLE}: there are no weights to read.")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise UserError(f"{folder / INDEX} has no weight_map from tensor names to file names.")
    bad = sorted({s for s in places.values() if s != Path(s).name or s.startswith(".") or not s.endswith(".safetensors")})
    if bad:
        raise UserError(f"{folder / INDEX} names {bad}. Shards must be safetensors files in the same folder. Nothing was read.")
    shards = {shard: read_safetensors(folder / shard) for shard in sorted(set(places.values()))}
    missing = [name for name, shard in places.items() if name not in shards[shard]]
    if missing:
        raise UserError(f"{folder}: the index promises {missing}, which its shards do not hold. Download the draft again.")
    return {name: shards[shard][name] for name, shard in places.items()}


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """A pickled state dict, by torch's restricted unpickler: tensors and plain containers, and nothing is called."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats; what matters is refused below
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile file provokes
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {asked[1]}" if asked else "is truncated or holds more than tensors"
        raise UserError(f"{file} {what}; nothing in it was executed. Ask its author for safetensors.") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} holds a {type(found).__name__} instead of named tensors.")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not _is_plain(value):
            raise UserError(f"{file}: {name!r} is not an ordinary tensor.")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in found.items()}


def _is_plain(value: Tensor) -> bool:
    """Dense, in main memory, and as large as it says (a tensor of stride 0 can claim any size)."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()
