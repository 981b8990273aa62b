"""Small copies of the samples' images for the page: within a size, within a budget, each content once.

A result file is data, so what it names is opened only below folders that the user gave; and only pictures that we encode
ourselves reach the page, never an address.
"""

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.images import open_image

SIZES = ((384, 80), (288, 66), (224, 60), (160, 54), (112, 48), (80, 40))  # longest side in pixels, WebP quality
TRIED = 16  # pictures encoded to find the size that fits
_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:")  # a scheme; one letter and a colon is a drive


@dataclass(frozen=True)
class Thumbnail:
    """A small WebP picture as a data URL."""

    url: str
    width: int
    height: int


class Thumbnails:
    """Collects pictures, then encodes them all at the largest size that fits."""

    def __init__(self, folders: Sequence[Path]):
        """`folders`: where pictures may be, besides the folder of the file that names them."""
        self.folders = [folder.resolve() for folder in folders]
        self.refused: Counter[str] = Counter()
        self._kept: list[bytes] = []  # JPEG, at the largest size
        self._known: dict[Path | str, int | str] = {}

    def add(self, name: str, beside: Path) -> int | str:
        """The number of a picture, or the reason why there is none. `beside` is the folder relative names start from."""
        found = self.find(name, beside)
        if isinstance(found, str):
            number: int | str = found
        elif (known := self._known.get(found)) is not None:
            number = known
        else:
            number = self._known[found] = self._open(found)
        if isinstance(number, str):
            self.refused[number] += 1
        return number

    def encode(self, budget: int) -> list[Thumbnail | None]:
        """All pictures in order, in at most `budget` characters together; None for those that do not fit even at 80 pixels."""
        some = self._kept[:: max(len(self._kept) // TRIED, 1)]
        encoded: list[bytes] = []
        for look in SIZES:
            estimate = sum(_characters(_webp(data, *look)) for data in some) * len(self._kept) / max(len(some), 1)
            if estimate <= budget or look == SIZES[-1]:
                encoded = [_webp(data, *look) for data in self._kept]
                if sum(map(_characters, encoded)) <= budget:
                    break
        thumbnails: list[Thumbnail | None] = []
        for data in encoded:
            budget -= _characters(data)
            thumbnails.append(_thumbnail(data) if budget >= 0 else None)
        return thumbnails

    def find(self, name: str, beside: Path) -> Path | str:
        """The file of a picture, or the reason why it is not opened."""
        if _ADDRESS.match(name):
            return "an address, not a file"
        try:
            file = (beside / name).resolve()
            allowed = any(file.is_relative_to(folder) for folder in (beside.resolve(), *self.folders))
            if not allowed:
                return "outside the folders that may be read (name theirs with --images)"
            return file if file.is_file() else "file missing"
        except (OSError, ValueError):
            return "no usable path"

    def _open(self, file: Path) -> int | str:
        try:
            data = _jpeg(open_image(file, str(file)))
        except BadRow as error:
            return error.reason
        key = hashlib.sha256(data).hexdigest()
        if key not in self._known:
            self._known[key] = len(self._kept)
            self._kept.append(data)
        return self._known[key]


def _jpeg(picture: Image.Image) -> bytes:
    """Reduced to the largest size, nearly without loss, quickly, without metadata."""
    data = io.BytesIO()
    picture.thumbnail((SIZES[0][0], SIZES[0][0]))
    picture.save(data, "JPEG", quality=95, subsampling=0)
    return data.getvalue()


def _webp(kept: bytes, size: int, quality: int) -> bytes:
    """At most `size` pixels on the longer side."""
    picture, data = Image.open(io.BytesIO(kept)), io.BytesIO()
    picture.thumbnail((size, size))
    picture.convert("RGB").save(data, "WEBP", quality=quality, method=2)
    return data.getvalue()


def _characters(data: bytes) -> int:
    return 4 * -(-len(data) // 3) + 60


def _thumbnail(data: bytes) -> Thumbnail:
    width, height = Image.open(io.BytesIO(data)).size
    return Thumbnail("data:image/webp;base64," + base64.b64encode(data).decode("ascii"), width, height)
