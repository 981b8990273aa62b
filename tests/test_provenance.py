"""Files are whole or absent, and nothing else is left behind."""

import json
from pathlib import Path

import pytest

from vlm_eagle.errors import UserError
from vlm_eagle.provenance import check_output, write_bytes, write_json


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"words": "größer 大"})
    write_json(file, {"n": 1})
    assert json.loads(file.read_text(encoding="utf-8")) == {"n": 1}
    assert [*file.parent.iterdir()] == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"new")

    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(file, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder"]
    assert file.read_text() == "old"


def test_a_device_is_written_and_not_replaced(tmp_path):
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write_bytes(null, b"gone")
    assert null.is_symlink()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    check_output(file)
    check_output(tmp_path / "new" / "deep" / "file.json")
    check_output(folder, folder=True)
    check_output(tmp_path / "new", folder=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    for place, options, wrong in (
        (folder, {}, "is a directory; expected a file"), (file, {"folder": True}, "is a file; expected a directory"),
        (file / "below" / "it", {}, "file is a file"), (file / "below", {"folder": True}, "file is a file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=wrong):
            check_output(place, **options)
    closed = []
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) not in closed)  # root may write anywhere
    for place, options, asked in (
        (tmp_path / "new.json", {}, tmp_path), (file, {}, tmp_path), (folder, {"folder": True}, folder),
        (folder / "new" / "deep", {"folder": True}, folder),
    ):  # fmt: skip
        closed[:] = [asked]
        with pytest.raises(UserError, match=f"no write permission in {asked}"):
            check_output(place, **options)
