"""A file that is written atomically is the old one or the new one, with nothing beside it."""

import os
from pathlib import Path

import pytest

from vlm_eagle.atomic import atomic_path


def test_the_file_appears_at_the_end_of_the_block(tmp_path):
    file = tmp_path / "new" / "data.json"
    with atomic_path(file) as scratch:
        scratch.write_text("new")
        assert (scratch.parent, scratch.suffix) == (file.parent, ".json")
        assert not file.exists()
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    file = tmp_path / "data.json"
    file.write_text("old")

    def interrupted():
        with atomic_path(file) as scratch:
            scratch.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), sync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    with atomic_path(tmp_path / "a") as scratch:
        scratch.write_text("x")
    assert done == ["sync", "replace", "sync"]


def test_a_folder_in_the_way_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"), atomic_path(tmp_path / "a") as scratch:
        scratch.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_devices_are_written_directly():
    with atomic_path(Path(os.devnull)) as scratch:
        assert scratch == Path(os.devnull)
