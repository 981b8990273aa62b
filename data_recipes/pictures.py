"""Pictures of a row to files named by their content. No pixel is decoded: the header says the format and the size.

Paths in rows are hostile until resolved: they may not leave the folders they are searched in.
"""

import base64
import binascii
import hashlib
import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from data_recipes.stream import DAMAGE, broke_off, is_hub_file, open_bytes
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.images import MAX_ASPECT, MAX_PIXELS
from vlm_eagle.errors import UserError

MAX_BYTES = 100_000_000  # of one picture's file
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
_DATA_URL = "data:image/"
_DAMAGE = (*DAMAGE, zipfile.BadZipFile, NotImplementedError, RuntimeError)  # or an encrypted member, or unknown compression


class PictureShelf:
    """Finds pictures and stores each once under `folder/<two digits>/<hash>.<format>`.

    `roots` are folders to look for paths in, `archives` zip files (local paths or `hf://` addresses).
    """

    def __init__(self, folder: Path, roots: Sequence[Path] = (), archives: Sequence[str] = ()):
        self.folder = folder
        self.roots = [root.resolve() for root in roots]
        self._archives = archives
        self._zips: list[_Zip] | None = None

    def store(self, given: Any, source: str) -> Path:
        """The file of a picture, however the row gives it.

        Raises:
            BadRow: it cannot be found, is not a picture, or is too large.
        """
        data = self._bytes(given, source)
        suffix = checked_format(data, source)
        digest = hashlib.sha256(data).hexdigest()[:32]
        file = self.folder / digest[:2] / f"{digest}{suffix}"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return file

    def close(self) -> None:
        """Closes the archives."""
        for archive in self._zips or []:
            archive.close()

    def _bytes(self, given: Any, source: str) -> bytes:
        if isinstance(given, dict):  # how `datasets` hands out an undecoded picture
            given = given["bytes"] if given.get("bytes") is not None else given.get("path")
        if isinstance(given, bytes | bytearray):
            data = bytes(given)
        elif isinstance(given, str) and given.startswith(_DATA_URL):
            data = _decoded_url(given, source)
        elif isinstance(given, str) and given.strip():
            data = self._found(given.strip(), source)
        else:
            raise BadRow(source, "image missing", f"expected a picture, found {type(given).__name__}")
        if len(data) > MAX_BYTES:
            raise BadRow(source, "image too large", f"{len(data):,} bytes, limit {MAX_BYTES:,}")
        return data

    def _found(self, name: str, source: str) -> bytes:
        if "://" in name:
            detail = f"{name[:80]!r}; download the pictures and give their folder with --images"
            raise BadRow(source, "image is a web address", detail)
        candidates = _endings(name, source)
        for root in self.roots:
            for candidate in candidates:
                if (data := _read_inside(root, candidate, source)) is not None:
                    return data
        if self._zips is None:
            self._zips = [_Zip(archive) for archive in self._archives]
        for archive in self._zips:
            if (data := archive.read(candidates, source)) is not None:
                return data
        raise BadRow(source, "image missing", f"{name[:80]!r} is in none of the folders and archives")


class _Zip:
    """A zip file, read by name; remote ones by ranges, so that a few pictures do not cost the whole archive."""

    def __init__(self, address: str):
        self.address = address
        self._stream = open_bytes(address, unpack=False)
        try:
            self._zip = zipfile.ZipFile(self._stream)
        except Exception as error:  # as in `read`
            lost = self._is_lost(error)
            raise broke_off(address, error) if lost else UserError(f"{address}: not a zip file: {error}") from None
        # members below a folder that rows do not name, as in COCO's train2017.zip
        self._by_ending = {PurePosixPath(member).name: member for member in self._zip.namelist()}

    def read(self, candidates: Sequence[str], source: str) -> bytes | None:
        """The bytes of the first of `candidates` that is a member, or the ending of one."""
        name = next((candidate for candidate in candidates if candidate in self._zip.NameToInfo), None)
        if name is None:
            name = self._by_ending.get(candidates[-1], "")
            if not name.endswith(f"/{candidates[0]}"):
                return None
        size = self._zip.getinfo(name).file_size
        if size > MAX_BYTES:
            raise BadRow(source, "image too large", f"{name!r} unpacks to {size:,} bytes")
        try:
            return self._zip.read(name)
        except Exception as error:  # of zlib, lzma, the disk, the Hub's client
            if self._is_lost(error):
                raise broke_off(self.address, error) from None
            raise BadRow(source, "image broken", f"{name!r} in {self.address}: {error}") from None

    def _is_lost(self, error: Exception) -> bool:
        """Whether the connection failed: then all later pictures would seem broken too."""
        return is_hub_file(self.address) and not isinstance(error, _DAMAGE)

    def close(self) -> None:
        self._zip.close()
        self._stream.close()


def _endings(name: str, source: str) -> list[str]:
    """a/b/c.jpg, b/c.jpg, c.jpg: rows often name folders that a download does not have."""
    if "\\" in name or "\0" in name:
        raise BadRow(source, "bad path", f"{name[:80]!r} is not a file name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadRow(source, "path leaves folder", f"{name[:80]!r}; keep pictures in the source's folder")
    return ["/".join(path.parts[i:]) for i in range(len(path.parts))]


def _read_inside(root: Path, name: str, source: str) -> bytes | None:
    try:
        file = (root / name).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            return None
        if file.stat().st_size > MAX_BYTES:
            raise BadRow(source, "image too large", f"{name!r} has {file.stat().st_size:,} bytes, limit {MAX_BYTES:,}")
        return file.read_bytes()
    except BadRow:
        raise
    except (OSError, ValueError, RuntimeError):  # too long a name, a symlink to itself, no permission
        return None


def checked_format(data: bytes, source: str) -> str:
    """The suffix of a picture's format, read from its header.

    Raises:
        BadRow: not a picture, of a format that engines do not read, or beyond our limits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits below are the stricter ones
            with Image.open(io.BytesIO(data)) as picture:
                kind, (width, height) = picture.format, picture.size
    except Image.DecompressionBombError as error:
        raise BadRow(source, "image too large", str(error)) from None
    except Exception as error:  # Pillow's plugins raise what they like: struct.error, RuntimeError, TypeError ...
        raise BadRow(source, "image broken", f"{type(error).__name__}: {error}"[:200]) from None
    if kind not in SUFFIXES:
        raise BadRow(source, "image format", f"{kind} pictures are not read by the engines; convert them to PNG or JPEG")
    if width * height > MAX_PIXELS:
        raise BadRow(source, "image too large", f"{width} x {height} pixels, limit {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * max(min(width, height), 1):
        raise BadRow(source, "image too long", f"{width} x {height} pixels, limit {MAX_ASPECT}:1")
    return SUFFIXES[kind]


def _decoded_url(url: str, source: str) -> bytes:
    head, comma, body = url.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError("expected data:image/...;base64,...")
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadRow(source, "image broken", f"data URL: {error}") from None
