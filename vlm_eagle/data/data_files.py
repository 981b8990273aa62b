"""Data files of any kind as JSON lines: recognised by their content, converted once where they are something else.

JSON lines are read in place. A JSON array, pretty-printed objects, CSV and Parquet tables, and packed files become a file of
JSON lines in the user's cache folder, named by a digest of the file's content. Row n of the data is line n of that file.
"""

import base64
import bz2
import csv
import gzip
import hashlib
import json
import logging
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_eagle.atomic import atomic_path
from vlm_eagle.errors import UserError

logger = logging.getLogger(__name__)
_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress,
}  # fmt: skip
_LISTS = ("data", "rows", "train", "examples", "instances")  # an object that holds all rows under one of these
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINES = (".jsonl", ".ndjson")
_LFS_POINTER = b"version https://git-lfs"
_DECODER = json.JSONDecoder()


def as_json_lines(file: Path) -> Path:
    """The JSON lines of a data file: the file itself, or what it was converted to.

    Raises:
        UserError: there is no such file, or it holds no rows in any form that is known.
    """
    if not file.is_file():
        wrong = "is a folder, not a data file" if file.is_dir() else "no such data file"
        raise UserError(f"{file}: {wrong}. Give a file of conversations: JSON lines, a JSON array, CSV or Parquet.")
    with file.open("rb") as stream:
        head = stream.read(4096)
    if head.startswith(_LFS_POINTER):
        raise UserError(f"{file} is a Git LFS pointer, not the data itself. Run git lfs pull, or download the file.")
    if _is_json_lines(file, head):
        return file
    goal = _cache_folder() / f"{_digest(file)}.jsonl"
    if not goal.is_file():
        try:
            _convert(file, head, goal)
        except UserError:
            if file.suffix.lower() in _LINES:
                return file  # what its lines hold is told row by row
            raise
    return goal


def _is_json_lines(file: Path, head: bytes) -> bool:
    """Whether one of the first lines is a whole row. Damaged lines before it are bad rows, and not another kind of file."""
    if b"\0" in head or head.startswith((*_PACKED, b"PAR1")) or file.suffix.lower() in (".csv", ".tsv"):
        return False
    is_named_so = file.suffix.lower() in _LINES
    with file.open("rb") as stream:
        for line in islice((line for line in stream if line.strip()), 20):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            rows = value if isinstance(value, list) else _inner_list(value) if isinstance(value, dict) else None
            if not (rows and isinstance(rows[0], dict)) and (isinstance(value, dict) or is_named_so):
                return True
    return False


def _convert(file: Path, head: bytes, goal: Path) -> None:
    count = 0
    try:
        kind, rows = _rows(file, head)
        with atomic_path(goal) as scratch, scratch.open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=True, default=_text) + "\n")
                count += 1
    except (ValueError, OSError, EOFError, lzma.LZMAError, csv.Error, RecursionError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as data: {str(error).splitlines()[0][:120]}.") from error
    logger.info(f"{file}: {kind}, {count:,} rows.")


def _rows(file: Path, head: bytes) -> tuple[str, Iterable[Any]]:
    """What kind of file it is, and its rows."""
    unpack = next((unpack for magic, unpack in _PACKED.items() if head.startswith(magic)), None)
    if unpack is not None:
        return "packed JSON", _json_values(unpack(file.read_bytes()))
    if head.startswith(b"PAR1"):
        return "Parquet", _table(file)
    if file.suffix.lower() in (".csv", ".tsv"):
        return "CSV", _csv(file)
    if head.lstrip(_BYTE_ORDER_MARK + b" \t\r\n")[:1] in (b"[", b"{"):
        return "JSON", _json_values(file.read_bytes())
    raise ValueError("it is neither JSON, CSV nor Parquet, packed or not")


def _json_values(data: bytes) -> Iterator[Any]:
    """The values in a JSON text one after another; the items of an array, or of the list under one of `_LISTS`."""
    text, at = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8"), 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        if text[at] == "[":
            at = yield from _items(text, at + 1)
            continue
        value, at = _DECODER.raw_decode(text, at)
        inner = _inner_list(value) if isinstance(value, dict) else None
        yield from [value] if inner is None else inner


def _items(text: str, at: int) -> Iterator[Any]:
    """The items of an array that begins before `at`; returns the place behind its end. Items come one at a time."""
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at >= len(text):
            raise ValueError("the array breaks off")
        if text[at] == "]":
            return at + 1
        value, at = _DECODER.raw_decode(text, at)
        yield value


def _inner_list(value: dict[str, Any]) -> list[Any] | None:
    found = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
    return found or None


def _table(file: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
        yield from batch.to_pylist()


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # pictures in base64
    with file.open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")


def _text(value: Any) -> str:
    """Bytes of a table, which are pictures, as a data URL; dates and the like as text."""
    if isinstance(value, bytes):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode("ascii")
    return str(value)


def _digest(file: Path) -> str:
    digest = hashlib.sha256(f"1 {file.suffix.lower()} ".encode())  # the format of what is written, and how it is read
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm_eagle" / "rows"
