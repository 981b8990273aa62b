"""Rows of data files, one at a time, whether they are on the Hub or on this machine.

`datasets` knows which files make up a split, and streams Parquet. JSON is read here, row by row: the library's reader infers
one Arrow type per column, so that a single odd row (a number where the others have text) ends the whole file, and it takes a
file that is one large array into memory at once. Nothing here decodes a picture.
"""

import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.utils import infer_compression

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.packages import require

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow"}
ROW_SUFFIXES = (*JSON_SUFFIXES, ".csv", *TABLE_SUFFIXES)
PACKED_SUFFIXES = (".gz", ".zst", ".xz", ".bz2")
READ_AHEAD = 100  # rows of a Parquet file held at once; embedded pictures make them large
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KNOWN = ", ".join(ROW_SUFFIXES) + ", packed or not"
_DEEPEST = 1000  # levels of a JSON document; ijson's memory grows with the square of the depth
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")

Row = tuple[str, Any]  # ("file:row", the row: a dict in a well-formed source; BadRow where it could not be read)
BREAKS_OFF = "file breaks off"  # the reason of a bad row after which nothing of its file could be read
DAMAGE = (csv.Error, ValueError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)  # in a file's bytes
Numbered = tuple[int, Any]  # the row's number from 1, and the row or the _Unreadable that stands in its place


@dataclass(frozen=True)
class _Unreadable:
    reason: str
    error: Exception

    def as_bad_row(self, source: str) -> BadRow:
        said = self.error.args[0] if self.error.args else ""  # ijson's are bytes where the document is not UTF-8
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(self.error)
        return BadRow(source, self.reason, (text.strip() or type(self.error).__name__).splitlines()[0][:200])


def rows(source: str | Path, split: str = "train", *, config: str | None = None, files: tuple[str, ...] = ()) -> Iterator[Row]:
    """The rows of `source` in order.

    Args:
        source: a local file or folder, or a Hub dataset, `owner/name` or `owner/name@revision`.
        split: which split of a Hub dataset; in a local folder, files whose name holds this word, or all if none does.
        config: configuration of a Hub dataset that has several.
        files: patterns of the files that belong to the source (relative, `*` and `**`). In a local folder in which none
            matches, files of those names anywhere in it, or else all; a local file is always just that file.

    Returns:
        Pairs of `file:row`, counted from 1, and what the row holds. A row that is not JSON comes as the BadRow that says so.

    Raises:
        UserError: no such file, one that may not be read, nothing readable in the folder, or the Hub cannot be reached.
    """
    for file in data_files(source, split, config=config, files=files):
        yield from file_rows(file, name_of(file, source))


def file_rows(file: str, name: str | None = None, table: str = "") -> Iterator[Row]:
    """The rows of one file: a local path or an `hf://` address.

    Args:
        file: path or address. Where it cannot be read on (cut off, damaged, a bad disk): one bad row, then the end.
        name: opens each row's source; the file by default.
        table: for JSON documents that hold several tables, the key of the list to read, e.g. `annotations` of COCO.

    Raises:
        UserError: the file cannot be opened, or the connection to the Hub is lost.
    """
    name, kind, number = name or file, _suffix(file), 0
    if kind not in ROW_SUFFIXES:
        raise UserError(f"{file}: unknown kind of file. Expected {_KNOWN}.")
    found = _json_rows(file, table) if kind in JSON_SUFFIXES else _csv_rows(file) if kind == ".csv" else _table_rows(file, kind)
    try:
        for number, row in found:
            source = f"{name}:{number}"
            yield source, row.as_bad_row(source) if isinstance(row, _Unreadable) else row
    except UserError:
        raise
    except Exception as error:
        is_remote = is_hub_file(file)
        if isinstance(error, DAMAGE) or (isinstance(error, OSError) and not is_remote):
            source = f"{name}:{number + 1}"
            yield source, _Unreadable(BREAKS_OFF, error).as_bad_row(source)
        elif is_remote:  # of sockets, of HTTP, of the Hub's client
            raise broke_off(name, error) from None
        else:
            raise


def broke_off(name: str, error: Exception) -> UserError:
    """The error for a lost connection to the Hub."""
    return UserError(
        f"{name}: reading from the Hub broke off: {type(error).__name__}: {error}\n"
        "Run it again, or download the dataset and give its folder with --source."
    )


def data_files(
    source: str | Path, split: str = "train", *, config: str | None = None, files: tuple[str, ...] = ()
) -> list[str]:
    """The files of a source, sorted: local paths or `hf://` addresses. Arguments and errors as in `rows`."""
    local = Path(source)
    if local.is_file():
        return [str(local)]
    if local.is_dir():
        return _local_files(local, split, files)
    if is_hub_id(source):
        return _hub_files(str(source), split, config, files)
    raise UserError(f"{source}: no such file or folder, and not the name of a Hub dataset (owner/name). Check the path.")


def is_hub_id(source: str | Path) -> bool:
    """Whether `source` reads as `owner/name` or `owner/name@revision` and nothing local has that name."""
    return bool(_HUB_ID.fullmatch(str(source))) and not Path(source).exists()


def is_hub_file(file: str) -> bool:
    """Whether a file of `data_files` is on the Hub."""
    return file.startswith("hf://")


def name_of(file: str, source: str | Path) -> str:
    """What rows of `file` are called: the path as the user would find it again."""
    if not is_hub_file(file):
        return file
    return f"{str(source).split('@')[0]}/{file.split('/', 5)[-1]}"


def open_bytes(file: str, unpack: bool = True) -> BinaryIO:
    """A local or remote file for reading, by default decompressed according to its suffix.

    Raises:
        UserError: there is no such file, it may not be read, or it cannot be decompressed here.
    """
    if unpack and file.lower().endswith(PACKED_SUFFIXES) and infer_compression(file) is None:
        raise UserError(f"{file}: nothing here unpacks it. Unpack it first, or (.zst) install zstandard.")
    try:
        return fsspec.open(file, "rb", compression="infer" if unpack else None).open()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file.") from None
    except (OSError, ValueError) as error:  # no permission, a Hub file that is not there
        raise UserError(f"{file}: cannot be opened: {error}") from None


def _json_rows(file: str, table: str) -> Iterator[Numbered]:
    with open_bytes(file) as stream:
        start = b""
        while not start and (piece := stream.read(4096)):
            start = piece.removeprefix(_BYTE_ORDER_MARK).lstrip()
        stream.seek(0)
        if table or start.startswith(b"["):
            yield from _items(stream, f"{table}.item" if table else "item")
            return
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of thousands of digits, too deep
                    yield number, _Unreadable("bad JSON", error)


def _items(stream: BinaryIO, prefix: str) -> Iterator[Numbered]:
    """The items of a list in one JSON document."""
    if stream.read(3) != _BYTE_ORDER_MARK:
        stream.seek(0)
    require("ijson", user="A JSON file that is one list", extra="recipes")
    import ijson

    try:
        events = ijson.parse(_shallow(ijson.basic_parse(stream, use_float=True)))
        yield from enumerate(ijson.items(events, prefix), 1)
    except ijson.JSONError as error:
        raise ValueError(*error.args) from None


def _shallow(events: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The same events of a JSON document; one that is nested too deeply is bad JSON."""
    depth = 0
    for event in events:
        if event[0] in ("start_map", "start_array"):
            depth += 1
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST:,} levels deep")
        elif event[0] in ("end_map", "end_array"):
            depth -= 1
        yield event


def _csv_rows(file: str) -> Iterator[Numbered]:
    """Every field as text: `1.50` is not a number and `NA` not a gap."""
    with io.TextIOWrapper(open_bytes(file), encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), 1):
            surplus = row.get(None)
            more = surplus and ValueError(f"{len(surplus)} fields more than the header has")
            yield number, _Unreadable("bad CSV", more) if more else row


def _table_rows(file: str, kind: str) -> Iterator[Numbered]:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    options: dict[str, Any] = {"batch_size": READ_AHEAD} if kind == ".parquet" else {}
    try:
        table = datasets.load_dataset(TABLE_SUFFIXES[kind], data_files={"all": [file]}, split="all", streaming=True, **options)
        yield from enumerate(table.decode(False), 1)
    except (OSError, ValueError, DatasetGenerationError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(f"{file}: cannot be read as {TABLE_SUFFIXES[kind]}: {error}") from None


def _local_files(folder: Path, split: str, patterns: tuple[str, ...]) -> list[str]:
    found = matching(folder, patterns) or matching(folder, (f"**/{pattern.rsplit('/', 1)[-1]}" for pattern in patterns))
    if not found:
        found = {file for file in folder.rglob("*") if file.is_file() and _suffix(file.name) in ROW_SUFFIXES}
        found = {file for file in found if split in file.name} or found
    if not found:
        raise UserError(f"{folder}: no data files. Expected {_KNOWN}.")
    return sorted(map(str, found))


def matching(folder: Path, patterns: Iterable[str]) -> set[Path]:
    """The files in a local folder that match one of `patterns`.

    Raises:
        UserError: a pattern that is absolute or empty.
    """
    try:
        return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"{error}. Give patterns relative to the source, such as data/*.jsonl.") from None


def _hub_files(source: str, split: str, config: str | None, patterns: tuple[str, ...]) -> list[str]:
    repository, _, revision = source.partition("@")
    try:
        if patterns:
            hub = fsspec.filesystem("hf")
            found = sorted({f"hf://{file}" for pattern in patterns for file in hub.glob(f"datasets/{source}/{pattern}")})
        else:
            import datasets

            builder = datasets.load_dataset_builder(repository, config, revision=revision or None)
            splits = builder.config.data_files or {}
    except Exception as error:  # offline, gated, renamed, a loading script: the libraries raise a dozen kinds
        raise UserError(
            f"{source}: the Hub dataset cannot be opened: {error}\n"
            "Check the name and the connection (HF_TOKEN for gated ones), or download it and give its folder with --source."
        ) from None
    if patterns:
        if not found:
            raise UserError(
                f"{source}: no file there matches {', '.join(patterns)}. Has the dataset changed? Give others with --files."
            )
        return found
    if split not in splits:
        raise UserError(f"{source}: no split {split!r}; it has {', '.join(map(str, splits)) or 'no data files'}.")
    return [str(file) for file in splits[split]]


def _suffix(file: str) -> str:
    name = Path(file).name.lower()
    for packed in PACKED_SUFFIXES:
        name = name.removesuffix(packed)
    return Path(name).suffix
