"""Image files to RGB pictures, within limits, with a reason when that cannot be done."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from vlm_eagle.data.conversation import BadRow

MAX_PIXELS = 64_000_000  # refuse to decode more: a small file can claim a picture of many gigabytes
MAX_ASPECT = 200  # Qwen's processors refuse longer strips


def open_image(image: Path | Image.Image, source: str) -> Image.Image:
    """An RGB picture from a file or from memory: upright (EXIF), transparency over white, 16 bits scaled to 8.

    Raises:
        BadRow: the file is missing, broken, no image, or too large; the header is read before any pixel.
    """
    name = image if isinstance(image, Path) else "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit below is the stricter one
            picture = Image.open(image) if isinstance(image, Path) else image
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise BadRow(source, "image too large", f"{name} has {width} x {height} pixels, limit {MAX_PIXELS:,}")
        if max(width, height) > MAX_ASPECT * max(min(width, height), 1):
            raise BadRow(source, "image too long", f"{name} has {width} x {height} pixels, limit {MAX_ASPECT}:1")
        return to_rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise BadRow(source, "image missing", f"{name} does not exist") from None
    except Image.DecompressionBombError as error:
        raise BadRow(source, "image too large", f"{name}: {error}") from None
    except BadRow:
        raise
    except Exception as error:  # Pillow's plugins raise what they like: struct.error, RuntimeError, TypeError ...
        raise BadRow(source, "image broken", f"{name}: {error}") from None


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
