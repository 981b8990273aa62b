"""Image files to RGB pictures, within limits; and their sizes without decoding a pixel."""

import base64
import binascii
import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from vlm_eagle.data.conversation import BadRow

MAX_PIXELS = 64_000_000  # refuse to decode more: a small file can claim a picture of many gigabytes
MAX_BYTES = 4 * MAX_PIXELS  # of an encoded image in memory: as many as its pixels need with alpha and uncompressed
MAX_ASPECT = 200  # Qwen's processors refuse longer strips
_TELLING = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "PPM", "JPEG2000", "TGA")
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_PNG_START, _PNG_PIXELS, _PNG_END = b"\x89PNG\r\n\x1a\n", (b"IDAT", b"fdAT"), b"\0\0\0\0IEND\xaeB`\x82"


def open_image(image: Path | Image.Image, source: str) -> Image.Image:
    """An RGB picture from a file or from memory: upright (EXIF), transparency over white, 16 bits scaled to 8.

    Raises:
        BadRow: the file is missing, broken, not an image, or too large (by its header).
    """
    with _explained(image, source):
        picture = Image.open(image) if isinstance(image, Path) else image
        _check_limits(image, picture.size, source)
        return to_rgb(ImageOps.exif_transpose(picture))


def picture_from_bytes(data: bytes, source: str) -> Image.Image:
    """The picture in an image file's bytes, its pixels not decoded yet. Raises BadRow if it is not an image or too large."""
    if len(data) > MAX_BYTES:
        raise BadRow(source, "image too large", f"{len(data):,} bytes, limit {MAX_BYTES:,}")
    with _explained(None, source):
        picture = Image.open(io.BytesIO(data))
        _check_limits(picture, picture.size, source)
        return picture


def picture_from_data_url(url: str, source: str) -> Image.Image:
    """The picture in a base64 data URL, likewise.

    Raises:
        BadRow: broken base64, no image, or too large.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise BadRow(source, "bad data URL", f"expected data:image/...;base64,..., found {url[:40]!r}")
    if (len(url) - head.end()) * 3 // 4 > MAX_BYTES:
        raise BadRow(source, "image too large", f"a data URL of {len(url):,} characters, limit {MAX_BYTES:,} bytes")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRow(source, "bad data URL", str(error)) from None
    return picture_from_bytes(data, source)


def upright_size(image: Path | Image.Image, source: str) -> tuple[int, int]:
    """(width, height) of what `open_image` would return. Pixels are decoded only for formats such as ICO, whose header does not
    give the size.

    Raises:
        BadRow: as `open_image`, except for damaged pixels.
    """
    with _explained(image, source):
        if not isinstance(image, Path):
            _check_limits(image, image.size, source)
            return ImageOps.exif_transpose(image).size
        with Image.open(image) as picture:
            width, height = size = picture.size
            _check_limits(image, size, source)
            if picture.format not in _TELLING:
                return open_image(image, source).size
            # Pillow has turned the size of a TIFF when it opens one; the orientation of others waits in their metadata
            return size if picture.format == "TIFF" or _orientation(picture, image) not in _SIDEWAYS else (height, width)


def to_rgb(picture: Image.Image) -> Image.Image:
    """RGB from any mode. Pillow's own conversion clips 16-bit grey to white and drops alpha onto black."""
    if picture.mode.startswith("I"):  # I;16 and friends, I: grey with up to 16 used bits
        picture.info.pop("transparency", None)  # a 16-bit value, meaningless after scaling
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    elif picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


@contextmanager
def _explained(image: Path | Image.Image | None, source: str) -> Iterator[None]:
    """Turns every error into a BadRow."""
    name = image if isinstance(image, Path) else "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is the stricter one
            yield
    except FileNotFoundError:
        raise BadRow(source, "image missing", f"{name} does not exist") from None
    except Image.DecompressionBombError as error:
        raise BadRow(source, "image too large", f"{name}: {error}") from None
    except BadRow:
        raise
    except Exception as error:  # Pillow's plugins raise what they like: struct.error, RuntimeError, TypeError ...
        raise BadRow(source, "image broken", f"{name}: {error}") from None


def _check_limits(image: Path | Image.Image, size: tuple[int, int], source: str) -> None:
    name, (width, height) = image if isinstance(image, Path) else "image", size
    if width * height > MAX_PIXELS:
        raise BadRow(source, "image too large", f"{name} has {width} x {height} pixels, limit {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * max(min(width, height), 1):
        raise BadRow(source, "image too long", f"{name} has {width} x {height} pixels, limit {MAX_ASPECT}:1")


def _orientation(picture: Image.Image, file: Path) -> int:
    if picture.format != "PNG":
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    # PNG allows metadata behind the pixels, so Pillow's getexif decodes them first
    try:
        with Image.open(io.BytesIO(_png_without_pixels(file))) as header:
            return Image.Image.getexif(header).get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError):  # damaged metadata, which Pillow may forgive when it decodes
        return picture.getexif().get(ExifTags.Base.Orientation, 1)


def _png_without_pixels(file: Path) -> bytes:
    """A PNG's chunks except its pixels, which are skipped. Source: https://www.w3.org/TR/png-3/#5Chunk-layout"""
    kept = [_PNG_START]
    with file.open("rb") as stream:
        stream.seek(len(_PNG_START))
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in _PNG_PIXELS:
                stream.seek(length + 4, io.SEEK_CUR)
            elif kind == _PNG_END[4:8]:
                break
            else:
                kept.append(head + stream.read(length + 4))
    return b"".join([*kept, _PNG_END])
