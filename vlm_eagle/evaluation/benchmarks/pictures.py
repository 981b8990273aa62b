"""Images of benchmark rows: embedded ones (as `datasets` stores them) and files beside the rows. Headers are read,
pixels not."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from data_recipes.pictures import checked_format
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.images import upright_size
from vlm_eagle.provenance import write_bytes


@dataclass(frozen=True)
class RowPicture:
    """An image within our limits.

    Attributes:
        content: a file, or a file's bytes.
        key: digest of the bytes, or the file's name.
        suffix: that of a file with these bytes.
    """

    content: Path | bytes
    key: str
    suffix: str

    def file(self, folder: Path) -> Path:
        """The image as a file. Bytes are written to `folder` under their digest, once."""
        if isinstance(self.content, Path):
            return self.content
        file = folder / f"{self.key}{self.suffix}"
        if not file.is_file():
            write_bytes(file, self.content)
        return file


def read_picture(value: Any, source: str, folders: tuple[Path, ...]) -> RowPicture:
    """The image in a row's field: `{"bytes", "path"}`, bytes, a PIL image, or the name of a file.

    Args:
        value: what the field holds.
        source: `file:row`, for errors.
        folders: where a named file may be; the first is the one that no name may leave. Empty for rows from the Hub.

    Raises:
        BadRow: no image, not readable as one, beyond our limits, or outside of the folder.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Image.Image):
        encoded = io.BytesIO()
        value.save(encoded, format="PNG")
        value = encoded.getvalue()
    if isinstance(value, str) and value:
        file = _inside(value, source, folders)
        upright_size(file, source)  # for what it raises
        return RowPicture(file, file.name, file.suffix)
    if isinstance(value, bytes) and value:
        return RowPicture(value, hashlib.sha256(value).hexdigest()[:24], checked_format(value, source))
    if value in (None, "", b""):
        raise BadRow(source, "image missing", "the field is empty")
    raise BadRow(source, "bad image", f"expected an embedded image or a file name, found {type(value).__name__}")


def _inside(name: str, source: str, folders: tuple[Path, ...]) -> Path:
    if not folders or "://" in name[:16]:
        raise BadRow(
            source, "image missing", f"{name[:80]!r} is only named, not embedded. Download the images and give the folder."
        )
    root = folders[0].resolve()
    try:
        candidates = [(folder / name).resolve() for folder in folders]
        found = [file for file in candidates if file.is_relative_to(root) and file.is_file()]
    except (OSError, ValueError, RuntimeError) as error:  # e.g. an embedded NUL, or a symlink to itself
        raise BadRow(source, "bad path", f"{name[:80]!r} is not a file name: {error}") from None
    if found:
        return found[0]
    if not all(file.is_relative_to(root) for file in candidates):
        raise BadRow(source, "path leaves folder", f"{name[:80]!r} is outside {folders[0]}; keep images beside the data file")
    raise BadRow(source, "image missing", f"{name[:80]!r} does not exist in {', '.join(map(str, folders))}")
