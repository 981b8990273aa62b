"""Pictures are found wherever a row may have them, stored once, checked by headers alone, and never outside of their folder."""

import base64
import io
import os
import struct
import zipfile
import zlib

import pytest
from PIL import Image
from samples import picture, zipped

from data_recipes import pictures
from data_recipes.pictures import PictureShelf
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError

RED = picture("red")


@pytest.fixture
def shelf(tmp_path):
    root = tmp_path / "root"
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/red.png").write_bytes(RED)
    (root / "top.jpg").write_bytes(picture("green", "JPEG"))
    (tmp_path / "secret.png").write_bytes(picture("black"))
    zipped(
        tmp_path / "a.zip", {"plain.png": picture("blue"), "extra/folder/below.png": picture("pink"), "bad.png": b"no picture"}
    )
    shelf = PictureShelf(tmp_path / "out/images", [root], [str(tmp_path / "a.zip")])
    yield shelf
    shelf.close()


@pytest.mark.parametrize(
    "given",
    [
        RED,
        bytearray(RED),
        {"bytes": RED, "path": "anything.jpg"},
        {"bytes": None, "path": "deep/er/red.png"},
        "deep/er/red.png",
        "unpacked/deep/er/red.png",
        "data:image/png;base64," + base64.b64encode(RED).decode(),
    ],
    ids=["bytes", "bytearray", "struct", "struct with a path", "path", "path with more folders", "data URL"],
)
def test_one_picture_however_it_is_given(shelf, given):
    file = shelf.store(given, "row")
    assert file.read_bytes() == RED
    assert file.suffix == ".png"
    assert shelf.store(RED, "row") == file
    assert [p for p in shelf.folder.rglob("*") if p.is_file()] == [file]


def test_suffix_by_content_not_by_name(shelf):
    assert shelf.store({"bytes": picture("red", "WEBP"), "path": "liar.jpg"}, "row").suffix == ".webp"
    assert shelf.store("top.jpg", "row").suffix == ".jpg"


@pytest.mark.parametrize("name", ["plain.png", "images/plain.png", "folder/below.png", "below.png"])
def test_members_of_archives(shelf, name):
    assert shelf.store(name, "row").is_file()


def test_no_pixel_is_decoded(shelf, monkeypatch):
    def forbidden(*_):
        raise AssertionError("decoded")

    made = [picture("red", kind) for kind in ("PNG", "JPEG", "WEBP")]
    for plugin in {Image.Image, *(type(Image.open(io.BytesIO(data))) for data in made)}:
        monkeypatch.setattr(plugin, "load", forbidden)
    assert len({shelf.store(data, "row") for data in made}) == 3


def huge_png(width, height):
    """A few bytes that claim a large picture."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("nowhere.png", "image missing"),
        (None, "image missing"),
        ("", "image missing"),
        (7, "image missing"),
        (Image.new("RGB", (4, 4)), "image missing"),  # sources are streamed undecoded; its bytes would be others each time
        ({"bytes": None, "path": None}, "image missing"),
        ({}, "image missing"),
        (["deep/er/red.png"], "image missing"),
        ("../secret.png", "path leaves folder"),
        ("/etc/passwd", "path leaves folder"),
        ("deep/../../secret.png", "path leaves folder"),
        ("deep\\red.png", "bad path"),
        ("nul\0.png", "bad path"),
        ("x" * 5000, "image missing"),
        ("https://example.org/1.png", "image is a web address"),
        (b"", "image broken"),
        (b"GIF89a", "image broken"),
        ("bad.png", "image broken"),
        ("data:image/png;base64,@@@", "image broken"),
        ("data:image/png,plain", "image broken"),
        (huge_png(9000, 9000), "image too large"),  # ours: Pillow alone would take it
        (huge_png(20_000, 20_000), "image too large"),
        (huge_png(60_000, 60_000), "image too large"),
        (huge_png(3000, 2), "image too long"),
        (picture("red", "ICO"), "image format"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_cannot_be_stored_has_a_reason(shelf, given, reason):
    with pytest.raises(BadRow) as caught:
        shelf.store(given, "row 1")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("row 1: ")
    assert not list(shelf.folder.rglob("*.png"))


def test_a_link_out_of_the_folder_is_not_followed(shelf, tmp_path):
    os.symlink(tmp_path / "secret.png", tmp_path / "root/link.png")
    with pytest.raises(BadRow, match="image missing"):
        shelf.store("link.png", "row")


def test_files_and_members_over_the_limit_are_not_read(shelf, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 20)
    for given in ("top.jpg", "plain.png", RED):
        with pytest.raises(BadRow, match="image too large"):
            shelf.store(given, "row")


@pytest.mark.parametrize("how", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
def test_a_damaged_member_costs_one_row(tmp_path, how):
    """Each compression has its own words for damage."""
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(noise, "BMP")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", getattr(zipfile, f"ZIP_{how}")) as archive:
        archive.writestr("noise.bmp", noise.getvalue())
        archive.writestr("red.png", RED)
        start = archive.getinfo("noise.bmp").header_offset + 30 + len("noise.bmp")
        end = archive.getinfo("red.png").header_offset
    whole = (tmp_path / "a.zip").read_bytes()
    for at in range(start + 12, end, end // 40):
        (tmp_path / "b.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        shelf = PictureShelf(tmp_path / "images", archives=[str(tmp_path / "b.zip")])
        with pytest.raises(BadRow, match="image broken"):
            shelf.store("noise.bmp", "row")
        assert shelf.store("red.png", "row").is_file()


def test_a_lost_connection_is_no_broken_picture(tmp_path, monkeypatch):
    """Else one hiccup would drop all pictures that follow, with a wrong reason."""
    zipped(tmp_path / "a.zip", {"red.png": RED})
    shelf = PictureShelf(tmp_path / "images", archives=["hf://datasets/owner/name@main/a.zip"])
    monkeypatch.setattr(pictures, "open_bytes", lambda *_, **__: (tmp_path / "a.zip").open("rb"))
    assert shelf.store("red.png", "row").is_file()

    def reset(*_):
        raise ConnectionResetError("peer")

    monkeypatch.setattr(zipfile.ZipFile, "read", reset)
    with pytest.raises(UserError, match="broke off: ConnectionResetError: peer") as caught:
        shelf.store("red.png", "row")
    assert not isinstance(caught.value, BadRow)


def test_no_zip_file_at_all(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a zip file"):
        PictureShelf(tmp_path / "images", archives=[str(tmp_path / "a.zip")]).store("a.png", "row")
