"""Features on disk, so that training need not run (or even load) the target again.

    STORE/manifest.json            target, layer ids, dtype, template, data: what a run is checked against
    STORE/counts.safetensors       how often each token occurs in answers: any draft vocabulary follows from it
    STORE/shards/0-00000.safetensors   packed tensors of many samples, written by rank 0
    STORE/shards/0-00000.parquet       where each sample lies in it, with a checksum; or why it was skipped

A shard's index is written after its tensors, each atomically: what the index names is there. Killing a capture loses at most
the shard being collected; the next one takes up the rows that no index names.
"""

import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import write_json
from vlm_eagle.training.feature_format import StoredSample, from_float8, packed_tensors

MANIFEST, COUNTS = "manifest.json", "counts.safetensors"
_TOKEN_FIELDS = ("input_ids", "loss_mask", "aux_hidden", "visual_mask")  # one entry per token
_COLUMNS = pa.schema(
    [("row", pa.int64()), ("id", pa.string()), ("reason", pa.string())]
    + [(f"{name}_{end}", pa.int64()) for name in ("token", "answer", "visual") for end in ("start", "count")]
    + [("crc32", pa.int64())]
)


class FeatureStore:
    """Reads a store. Item i is data row i: a `StoredSample`, or the `BadRow` that says why there is none."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
            self.counts: Tensor = load_file(self.folder / COUNTS)["counts"]
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{folder} is no feature store: {error}. Make one with vlm-eagle capture.") from error
        self.index = read_index(self.folder)
        self._open: dict[Path, Any] = {}

    def __len__(self) -> int:
        return self.manifest["rows"]

    @property
    def missing(self) -> list[int]:
        """Data rows that were not captured yet."""
        return [row for row in range(len(self)) if row not in self.index]

    @property
    def skipped(self) -> dict[str, int]:
        """reason -> count of the rows that could not be used."""
        reasons = [entry["reason"] for _, entry in self.index.values() if entry["reason"]]
        return dict(Counter(reasons))

    @property
    def nbytes(self) -> int:
        """Size of all shards on disk."""
        return sum(file.stat().st_size for file in (self.folder / "shards").iterdir())

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row up to its last supervised position, 0 for a skipped one."""
        return [self.index[row][1]["token_count"] for row in range(len(self))]

    def __getitem__(self, row: int) -> StoredSample | BadRow:
        if row not in self.index:
            raise UserError(f"{self.folder} lacks data row {row}. Run vlm-eagle capture again to complete it.")
        file, entry = self.index[row]
        if entry["reason"]:
            return BadRow(entry["id"], entry["reason"], "skipped when features were captured")
        tensors = self._read(file, entry)
        if checksum(tensors) != entry["crc32"]:
            raise UserError(
                f"{file}: sample {entry['id']!r} (data row {row}) does not match its checksum. Delete this file and its "
                ".parquet, and run vlm-eagle capture again."
            )
        if "aux_scales" in tensors:
            tensors["aux_hidden"] = from_float8(tensors["aux_hidden"], tensors.pop("aux_scales"))
        masks = {name: tensors[name].bool() for name in ("loss_mask", "visual_mask") if name in tensors}
        return StoredSample(entry["id"], **{**tensors, **masks})

    def _read(self, file: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
        if file not in self._open:
            try:
                self._open[file] = safe_open(file, "pt")
            except (OSError, SafetensorError) as error:
                raise UserError(f"{file}: {error}. Delete its .parquet and run vlm-eagle capture again.") from error
        source, tensors = self._open[file], {}
        for name in source.keys():  # noqa: SIM118 (not a dictionary)
            start, count = entry[f"{_axis(name)}_start"], entry[f"{_axis(name)}_count"]
            tensors[name] = source.get_slice(name)[start : start + count]
        return tensors

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # open files do not travel to worker processes


class FeatureWriter:
    """Adds shards to a store. One per rank."""

    def __init__(self, folder: Path, rank: int, dtype: torch.dtype, visual: bool, shard_bytes: int = 2**29):
        """`dtype` is that of the stored hidden states; `visual` keeps visual embeddings as well."""
        self.shards, self.rank, self.dtype, self.visual, self.shard_bytes = folder / "shards", rank, dtype, visual, shard_bytes
        self.shards.mkdir(parents=True, exist_ok=True)
        mine = [re.fullmatch(rf"{rank}-(\d+)", file.stem) for file in self.shards.glob("*.parquet")]
        self.number = max((int(m[1]) for m in mine if m), default=-1) + 1
        self.known = set(read_index(folder))
        self._clear()

    def _clear(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.parts: list[dict[str, Tensor]] = []
        self.size, self.next = 0, {"token": 0, "answer": 0, "visual": 0}

    def add(self, row: int, sample: StoredSample) -> None:
        """Keeps a sample, unless its row is in the store; writes a shard when enough has come together."""
        if row in self.known:
            return
        tensors = packed_tensors(sample, self.dtype, self.visual)
        counts = {"token": len(sample.input_ids), "answer": len(sample.last_hidden)}
        counts["visual"] = len(sample.visual) if sample.visual is not None else 0
        entry = {"row": row, "id": sample.id, "reason": None, "crc32": checksum(tensors)}
        for axis, count in counts.items():
            entry |= {f"{axis}_start": self.next[axis], f"{axis}_count": count}
            self.next[axis] += count
        self.entries.append(entry)
        self.parts.append(tensors)
        self.known.add(row)
        self.size += sum(t.nbytes for t in tensors.values())
        if self.size >= self.shard_bytes:
            self.flush()

    def skip(self, row: int, name: str, reason: str) -> None:
        """Notes a row that cannot be used."""
        if row not in self.known:
            zeros = {f"{axis}_{end}": 0 for axis in self.next for end in ("start", "count")}
            self.entries.append({"row": row, "id": name, "reason": reason, "crc32": 0, **zeros})
            self.known.add(row)

    def flush(self) -> None:
        """Writes what has been collected."""
        if not self.entries:
            return
        file = self.shards / f"{self.rank}-{self.number:05d}"
        names = self.parts[0].keys() if self.parts else ()
        packed = {name: torch.cat([part[name] for part in self.parts]) for name in names}
        _atomically(file.with_suffix(".safetensors"), lambda scratch: save_file(packed, scratch))
        table = pa.Table.from_pylist(self.entries, schema=_COLUMNS)
        _atomically(file.with_suffix(".parquet"), lambda scratch: pq.write_table(table, scratch))
        self.number += 1
        self._clear()


def create(folder: Path, manifest: dict[str, Any], counts: Tensor) -> None:
    """Begins a store, or goes on with one of the same manifest.

    Raises:
        UserError: the folder holds a store of something else.
    """
    file = folder / MANIFEST
    if file.is_file():
        found = json.loads(file.read_text())
        different = [k for k in manifest if found.get(k) != manifest[k]]
        if different:
            what = "; ".join(f"{k}: {found.get(k)!r} there, {manifest[k]!r} asked for" for k in different)
            raise UserError(f"{folder} holds other features ({what}). Choose another folder, or delete it.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    _atomically(folder / COUNTS, lambda scratch: save_file({"counts": counts}, scratch))
    write_json(file, manifest)


def read_index(folder: Path) -> dict[int, tuple[Path, dict[str, Any]]]:
    """Data row -> (shard, its entry), from all shards that are complete."""
    index = {}
    for file in sorted((folder / "shards").glob("*.parquet")):
        try:
            rows = pq.read_table(file, schema=_COLUMNS).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{file}: {error}. Delete it and run vlm-eagle capture again.") from error
        index |= {entry["row"]: (file.with_suffix(".safetensors"), entry) for entry in rows}
    return index


def checksum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 over the bytes of all tensors, by name."""
    crc = 0
    for name in sorted(tensors):
        data: Any = tensors[name].contiguous().flatten().view(torch.uint8).numpy()
        crc = zlib.crc32(data, crc)
    return crc


def _axis(name: str) -> str:
    return "token" if name in (*_TOKEN_FIELDS, "aux_scales") else {"last_hidden": "answer", "visual": "visual"}[name]


def _atomically(file: Path, write: Any) -> None:
    scratch = file.with_name(f".{file.name}.tmp")
    write(scratch)
    scratch.replace(file)
