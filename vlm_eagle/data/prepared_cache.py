"""Prepared rows on disk, named by what they were made from.

    CACHE/<digest of what prepared them>/<digest of what they were made from>.parquet

Nothing here can be stale, because a file's name is a digest of everything its content depends on: the bytes of the rows; the
sizes of their images, read from the headers at every run; the content of their videos; tokenizer, chat template, processor and
pixel budget; longest length; versions of the libraries; and the source of vlm_eagle/data itself. Files are written atomically,
so several processes may share the folder without locks, and it can be deleted at any time.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from qwen_vl_utils.vision_process import MODEL_SEQ_LEN

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import sha256

_PACKAGES = ("transformers", "tokenizers", "jinja2", "qwen-vl-utils", "pillow", "av")


def default_folder() -> Path:
    """The cache in the user's cache folder (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm_eagle" / "prepared"


def identity(collator: VisionCollator) -> str:
    """A digest of everything but the rows that decides what rows become."""
    with tempfile.TemporaryDirectory() as folder:
        (collator.vision or collator.tokenizer).save_pretrained(folder)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        processor = [str(file.relative_to(folder)) for file in files], sha256(files)
    source = sha256(sorted(Path(__file__).parent.glob("*.py")))
    settings = (collator.max_length, collator.vision is None, collator.for_generation, MODEL_SEQ_LEN)
    template = (collator.chat_template, collator.template_options)
    return _digest([repr((processor, source, settings, template, [version(name) for name in _PACKAGES])).encode()])


class PreparedCache:
    """Tables of prepared rows for one way of preparing them."""

    def __init__(self, folder: Path | str | None, collator: VisionCollator):
        """`folder` None takes `default_folder()`."""
        self.folder = Path(folder or default_folder()) / identity(collator)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def key(self, rows: Iterable[tuple[bytes, object]]) -> str:
        """A digest of rows, each given as its line and the facts about its media."""
        return _digest(part for line, facts in rows for part in (repr((len(line), facts)).encode(), line))

    def read(self, key: str, schema: pa.Schema, rows: int) -> pa.Table | None:
        """The table of that key; None when there is none, or a damaged one."""
        try:
            with self._file(key).open("rb") as stream:
                table = pq.read_table(stream, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            return None
        return table if table.schema.equals(schema) and table.num_rows == rows else None

    def write(self, key: str, table: pa.Table) -> pa.Table:
        """Stores a table and returns it. Raises UserError if the folder cannot be written to."""
        file = self._file(key)
        scratch = file.with_name(f".{key}.{os.getpid()}")
        try:
            pq.write_table(table, scratch, compression="zstd", write_page_checksum=True)
            scratch.replace(file)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise self._unusable(error) from error
        return table

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _unusable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.folder} cannot store prepared data: {error}. Choose another folder with --data.cache, or free some space."
        )


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
