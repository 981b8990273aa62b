"""Pixel values of pictures in every awkward form, and a reason for each that cannot be used."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.images import open_image

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)


def picture(mode: str, pixels: list, size: tuple[int, int] | None = None) -> Image.Image:
    image = Image.new(mode, size or (len(pixels), 1))
    image.putdata(pixels)
    return image


def pixels(image: Image.Image | Path) -> list[tuple[int, int, int]]:
    opened = open_image(image, "rows.jsonl:3")
    assert opened.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(opened).reshape(-1, 3).tolist()]


def saved(image: Image.Image, file: Path, **options) -> Path:
    image.save(file, **options)
    return file


def reason(image: Image.Image | Path) -> str:
    with pytest.raises(BadRow) as caught:
        open_image(image, "rows.jsonl:3")
    assert str(caught.value).startswith(f"rows.jsonl:3: {caught.value.reason}: ")
    return caught.value.reason


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


def encoded(image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    noise().save(stream, image_format, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and ends there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + start + struct.pack(">I", 10) + b"IDAT"


def test_palette_with_transparency(tmp_path):
    image = picture("P", [0, 1, 2])
    image.putpalette([*BLUE, *RED, *BLUE])
    assert pixels(saved(image, tmp_path / "p.png", transparency=0)) == [WHITE, RED, BLUE]
    assert pixels(saved(image, tmp_path / "p2.png", transparency=bytes([255, 0, 128]))) == [BLUE, WHITE, (127, 127, 255)]


@pytest.mark.parametrize(
    ("mode", "given", "expected"),
    [
        ("RGBA", [(255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)], [RED, WHITE, (255, 127, 127)]),
        ("LA", [(0, 255), (0, 0), (0, 128)], [BLACK, WHITE, (127, 127, 127)]),
    ],
)
def test_transparency_lies_over_white(tmp_path, mode, given, expected):
    assert pixels(picture(mode, given)) == expected
    assert pixels(saved(picture(mode, given), tmp_path / "image.png")) == expected


def test_cmyk(tmp_path):
    image = picture("CMYK", [(0, 255, 255, 0), (255, 255, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255)])
    assert pixels(saved(image, tmp_path / "image.tif")) == [RED, BLUE, WHITE, BLACK]
    jpeg = saved(image.resize((64, 16), Image.Resampling.NEAREST), tmp_path / "image.jpg", quality=95)
    assert np.allclose(pixels(jpeg)[8], RED, atol=8)  # Adobe stores CMYK upside down


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    file = saved(Image.fromarray(values), tmp_path / name)
    assert Image.open(file).mode == "I;16"
    assert pixels(file) == [(v, v, v) for v in (0, 0, 1, 128, 255)]


def test_one_bit_and_grey(tmp_path):
    assert pixels(saved(picture("1", [0, 1, 1, 0]), tmp_path / "1.png")) == [BLACK, WHITE, WHITE, BLACK]
    assert pixels(saved(picture("L", [0, 77]), tmp_path / "l.png")) == [BLACK, (77, 77, 77)]


@pytest.mark.parametrize(
    ("orientation", "size", "expected"),
    [(1, (2, 1), [RED, BLUE]), (3, (2, 1), [BLUE, RED]), (6, (1, 2), [RED, BLUE]), (8, (1, 2), [BLUE, RED])],
)
def test_exif_rotation(tmp_path, orientation, size, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(picture("RGB", [RED, BLUE]), tmp_path / "image.png", exif=exif)
    assert open_image(file, "").size == size
    assert pixels(file) == expected


def test_a_missing_file(tmp_path):
    assert reason(tmp_path / "none.png") == "image missing"


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_not_half_a_picture(tmp_path, image_format):
    (tmp_path / "image").write_bytes(encoded(image_format)[:-200])
    assert reason(tmp_path / "image") == "image broken"


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\0" * 1000])
def test_bytes_that_are_no_image(tmp_path, content):
    (tmp_path / "image.png").write_bytes(content)
    assert reason(tmp_path / "image.png") == "image broken"
    assert reason(tmp_path) == "image broken"  # a folder


def test_a_jpeg_with_text_where_exif_wants_a_number(tmp_path):
    """Cameras and editors write such tags, and Pillow raises struct.error when it rotates the picture."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "hello"
    (tmp_path / "image.jpg").write_bytes(encoded("JPEG", exif=exif).replace(b"\x01\x0e\x00\x02", b"\x01\x03\x00\x02"))
    assert reason(tmp_path / "image.jpg") == "image broken"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_damaged_avif(tmp_path):
    """Pillow's AVIF decoder raises RuntimeError."""
    (tmp_path / "image.avif").write_bytes(encoded("AVIF").replace(b"iloc", b"lost"))
    assert reason(tmp_path / "image.avif") == "image broken"


@pytest.mark.parametrize("size", [(100_000, 100_000), (10_000, 10_000), (8_001, 8_000)])
def test_too_large_by_its_header_alone(tmp_path, size):
    """Beyond Pillow's error, between its warning and its error, and just beyond our own limit."""
    (tmp_path / "image.png").write_bytes(png_header(*size))
    assert reason(tmp_path / "image.png") == "image too large"


def test_the_largest_picture_is_decoded(tmp_path):
    (tmp_path / "image.png").write_bytes(png_header(8_000, 8_000))
    assert reason(tmp_path / "image.png") == "image broken"  # it passed the limit, and then there were no pixels


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (805, 4)])
def test_extreme_aspect_ratio(size):
    assert reason(Image.new("RGB", size)) == "image too long"
    assert open_image(Image.new("RGB", (200, 1)), "").size == (200, 1)
