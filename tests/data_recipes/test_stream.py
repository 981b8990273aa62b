"""Rows come out of every kind of file in order, with their source, and a bad one costs only itself."""

import bz2
import gzip
import json
import lzma
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_recipes import stream
from data_recipes.stream import file_rows, is_hub_id, name_of, rows
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError

OBJECTS = [{"id": i, "text": f"row {i} 中", "nested": {"list": [i, None, 1.5]}} for i in range(5)]


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def jsonl(objects):
    return "\n".join(json.dumps(o, ensure_ascii=False) for o in objects) + "\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl(OBJECTS)),
        ("a.json", jsonl(OBJECTS)),  # lines under the name of a document, as many sources have it
        ("a.json", json.dumps(OBJECTS, ensure_ascii=False, indent=1)),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(OBJECTS).encode()),
        ("a.jsonl", b"\xef\xbb\xbf" + jsonl(OBJECTS).encode()),
        ("a.jsonl.gz", gzip.compress(jsonl(OBJECTS).encode())),
        ("a.json.gz", gzip.compress(json.dumps(OBJECTS).encode())),
    ],
)
def test_json_of_every_shape(tmp_path, name, content):
    file = write(tmp_path / name, content)
    assert list(rows(file)) == [(f"{file}:{i}", o) for i, o in enumerate(OBJECTS, 1)]


def test_rows_of_one_column_may_differ_in_type(tmp_path):
    odd = [{"v": "text"}, {"v": 3}, {"v": [{"a": 1}]}, {"w": None}, 7, "word", None, [1]]
    assert [row for _, row in rows(write(tmp_path / "a.jsonl", jsonl(odd)))] == odd
    assert [row for _, row in rows(write(tmp_path / "a.json", json.dumps(odd)))] == odd


def test_a_bad_line_costs_only_itself(tmp_path):
    deep = "[" * 100_000
    file = write(tmp_path / "a.jsonl", b'{"a": 1}\n\n{"a": \n\xff\n' + deep.encode() + b'\n{"a": 2}')
    found = list(rows(file))
    assert [source.rsplit(":", 1)[1] for source, _ in found] == ["1", "3", "4", "5", "6"]
    assert [isinstance(row, BadRow) for _, row in found] == [False, True, True, True, False]
    assert {row.reason for _, row in found if isinstance(row, BadRow)} == {"bad JSON"}
    assert found[1][1].source == f"{file}:3"


def test_a_broken_array_gives_what_came_before_and_one_bad_row(tmp_path):
    found = [row for _, row in rows(write(tmp_path / "a.json", '[{"a": 1}, {"a": 2}, {"a": '))]
    assert found[:2] == [{"a": 1}, {"a": 2}]
    assert len(found) == 3
    assert found[2].reason == "file breaks off"


def test_a_byte_that_is_no_text_is_named_as_people_write_it(tmp_path):
    found = [row for _, row in rows(write(tmp_path / "a.json", b'[{"a": 1}, "\xff", {"a": 2}]'))]
    assert found[0] == {"a": 1}
    assert "breaks off: lexical error: invalid bytes in UTF8" in str(found[1])


def test_a_document_nested_without_end_costs_no_memory(tmp_path):
    """Without a limit ijson would take 25 GB for these 100 kB."""
    found = [row for _, row in rows(write(tmp_path / "a.json", '[{"a": 1}, ' + "[" * 100_000))]
    assert (found[0], found[1].reason, len(found)) == ({"a": 1}, "file breaks off", 2)
    assert "1,000 levels" in str(found[1])
    deep = "[" * 900 + "]" * 900
    assert len(list(rows(write(tmp_path / "b.json", f"[{deep}, {deep}, {deep}]")))) == 3


PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}


@pytest.mark.slow
@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_packed_file_that_is_cut_off_or_damaged(tmp_path, kind, packed):
    """What came before the damage is kept; one bad row says that the rest is lost."""
    chance = random.Random(4)
    noise = [{"n": i, "t": chance.randbytes(30).hex()} for i in range(20_000)]
    lines = "n,t\n" + "".join(f"{row['n']},{row['t']}\n" for row in noise)
    whole = PACKERS[packed]({"jsonl": jsonl(noise), "json": json.dumps(noise), "csv": lines}[kind].encode())
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle : middle + 2]) + whole[middle + 2 :]
    for content in (damaged, b"not packed at all\n", whole[:middle]):
        found = [row for _, row in rows(write(tmp_path / f"a.{kind}.{packed}", content))]
        bad = [row for row in found if isinstance(row, BadRow)]
        assert bad[-1] is found[-1]
        assert bad[-1].reason == "file breaks off"
    if packed != "bz2":  # which unpacks blocks of 900 kB, and is cut off in the first
        assert [int(row["n"]) for row in found[:5000]] == list(range(5000))


def test_a_packed_file_that_nothing_here_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "infer_compression", lambda file: None)
    with pytest.raises(UserError, match="install zstandard"):
        list(rows(write(tmp_path / "a.jsonl.zst", b"\x28\xb5\x2f\xfd")))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(stream.fsspec, "open", forbidden)
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be opened.*Permission denied"):
        list(rows(write(tmp_path / "a.jsonl", "{}")))


def test_a_table_inside_a_document(tmp_path):
    file = write(tmp_path / "captions.json", json.dumps({"info": {}, "images": [{"id": 9}], "annotations": OBJECTS}))
    assert [row for _, row in file_rows(str(file), table="annotations")] == OBJECTS
    assert [row for _, row in file_rows(str(file), table="images")] == [{"id": 9}]


def test_parquet_streams_with_pictures_undecoded(tmp_path):
    from datasets import Dataset, Features, Image, Value

    broken = b"\x89PNG no picture at all"
    Dataset.from_list(
        [{"image": {"bytes": broken, "path": "a.png"}, "n": i} for i in range(250)],
        features=Features({"image": Image(), "n": Value("int64")}),
    ).to_parquet(tmp_path / "a.parquet")
    found = list(rows(tmp_path / "a.parquet"))
    assert [row["n"] for _, row in found] == list(range(250))
    assert found[249] == (f"{tmp_path / 'a.parquet'}:250", {"image": {"bytes": broken, "path": "a.png"}, "n": 249})


def test_a_folder_by_pattern_by_split_or_whole(tmp_path):
    pq.write_table(pa.table({"n": [1]}), write(tmp_path / "data/train_sft-0.parquet", b""))
    write(tmp_path / "data/test_sft-0.jsonl", jsonl([{"n": 2}]))
    write(tmp_path / "notes.txt", "not data")
    numbers = lambda **which: [row["n"] for _, row in rows(tmp_path, **which)]
    assert numbers() == [1]
    assert numbers(split="test") == [2]
    assert numbers(split="validation") == [2, 1]
    assert numbers(files=("data/*.jsonl",)) == [2]
    assert numbers(files=("another/place/*.jsonl",)) == [2]
    assert numbers(files=("nothing/*.arrow",)) == [1]


@pytest.mark.parametrize(
    ("make", "source", "says"),
    [
        (None, "missing.jsonl", "no such file"),
        (None, "a/b/c", "no such file"),
        ("empty/notes.txt", "empty", "no data files"),
        ("a.txt", "a.txt", "unknown kind"),
        ("a.parquet", "a.parquet", "cannot be read as parquet"),
    ],
)
def test_errors_name_the_file_and_the_cure(tmp_path, monkeypatch, make, source, says):
    monkeypatch.chdir(tmp_path)
    if make:
        write(tmp_path / make, "no data")
    with pytest.raises(UserError, match=says):
        list(rows(source))


def test_the_hub_out_of_reach_is_said_with_what_to_do():
    with pytest.raises(UserError, match="--source"):
        list(rows("nobody/no-such-dataset"))


def test_names_of_hub_sources():
    assert is_hub_id("owner/name")
    assert is_hub_id("owner/name@v1.0")
    assert not is_hub_id("a/b/c")
    assert not is_hub_id("./a")
    assert name_of("hf://datasets/owner/name@0123abc/data/a.jsonl", "owner/name") == "owner/name/data/a.jsonl"


@pytest.fixture
def hub(monkeypatch):
    """A file system in memory in the place of the Hub's."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Hub(MemoryFileSystem):
        protocol, store, pseudo_dirs, root_marker = "hf", {}, [""], ""

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.removeprefix("hf://").strip("/")

        def glob(self, path, **more):
            return [found.lstrip("/") for found in super().glob("/" + path, **more)]

    fsspec.register_implementation("hf", Hub, clobber=True)
    yield Hub()
    from huggingface_hub import HfFileSystem

    fsspec.register_implementation("hf", HfFileSystem, clobber=True)


def test_files_of_the_hub_by_pattern(hub):
    hub.pipe("/datasets/owner/name/data/a-0.jsonl", jsonl(OBJECTS).encode())
    hub.pipe("/datasets/owner/name/data/a-1.json", json.dumps(OBJECTS[:2]).encode())
    hub.pipe("/datasets/owner/name/other.jsonl", b"{}")
    found = list(rows("owner/name", files=("data/a-*.json*",)))
    assert [row for _, row in found] == [*OBJECTS, *OBJECTS[:2]]
    assert [found[0][0], found[5][0]] == ["owner/name/data/a-0.jsonl:1", "owner/name/data/a-1.json:1"]
    with pytest.raises(UserError, match="no file there matches"):
        list(rows("owner/name", files=("nothing*",)))


def test_a_broken_connection_is_no_traceback(hub, monkeypatch):
    hub.pipe("/datasets/owner/name/a.jsonl", jsonl(OBJECTS).encode())

    def lines(file, table):
        yield 1, {"a": 1}
        raise ConnectionResetError("peer")

    monkeypatch.setattr(stream, "_json_rows", lines)
    found = rows("owner/name", files=("*.jsonl",))
    assert next(found) == ("owner/name/a.jsonl:1", {"a": 1})
    with pytest.raises(UserError, match="broke off: ConnectionResetError: peer"):
        next(found)


def test_a_damaged_file_of_the_hub_is_no_broken_connection(hub):
    hub.pipe("/datasets/owner/name/a.jsonl.gz", gzip.compress(jsonl(OBJECTS).encode())[:-12])
    found = [row for _, row in rows("owner/name", files=("*.gz",))]
    assert found[-1].reason == "file breaks off"


def test_a_revision_of_the_hub(hub):
    hub.pipe("/datasets/owner/name@v2/a.jsonl", b'{"n": 2}')
    assert list(rows("owner/name@v2", files=("*.jsonl",))) == [("owner/name/a.jsonl:1", {"n": 2})]
