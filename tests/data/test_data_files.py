"""The same three rows in every kind of file: they arrive, with their numbers; what is no data is refused in a sentence."""

import base64
import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.data.data_files import as_json_lines
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.errors import UserError

ROWS = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}, 你好"} for i in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def sheet(delimiter: str) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue()


FILES = {
    "lines.jsonl": LINES,
    "lines.json": LINES,
    "no_suffix": LINES,
    "array.json": json.dumps(ROWS),
    "pretty array.json": json.dumps(ROWS, indent=2),
    "array.jsonl": json.dumps(ROWS, indent=1),
    "pretty objects.json": "\n".join(json.dumps(row, indent=4) for row in ROWS),
    "held.json": json.dumps({"version": 1, "data": ROWS}),
    "mark.json": "\ufeff" + json.dumps(ROWS),
    "mark.jsonl": "\ufeff" + LINES,
    "packed.jsonl.gz": gzip.compress(LINES.encode(), mtime=0),
    "packed.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "packed.jsonl.xz": lzma.compress(LINES.encode()),
    "table.parquet": table(),
    "sheet.csv": sheet(","),
    "sheet.tsv": sheet("\t"),
}


@pytest.mark.parametrize("name", FILES)
def test_rows_arrive_from_any_kind_of_file(tmp_path, name):
    content = FILES[name]
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    dataset = ConversationDataset([file])
    for found in ([dataset[i] for i in range(len(dataset))], list(read_conversations(file))):
        assert [row.messages[-1].text for row in found] == [row["output"] for row in ROWS]
        assert [row.source for row in found] == [f"{file}:{i + 1}" for i in range(3)]


def test_media_lie_beside_the_file_that_the_user_named(tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps([{"query": "<image>Colour?", "response": "Red.", "images": ["a.png"]}]))
    assert as_json_lines(file).parent != tmp_path
    (row,) = read_conversations(file)
    assert row.messages[0].content[0].image == tmp_path / "a.png"


def test_pictures_in_a_table(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (32, 40), "red").save(stream, "PNG")
    rows = [{"question": "Colour?", "answer": "Red.", "image": {"bytes": stream.getvalue(), "path": "a.png"}},
            {"question": "Colour?", "answer": "Red.", "image": None}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    seen, blind = read_conversations(tmp_path / "t.parquet")
    assert seen.messages[0].content[0].image.size == (32, 40)
    assert not blind.has_media
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    (tmp_path / "t.csv").write_text(f'question,answer,image\nColour?,Red.,"{url}"\n')
    (row,) = read_conversations(tmp_path / "t.csv")
    assert row.messages[0].content[0].image.size == (32, 40)


def test_bad_rows_stay_rows(tmp_path):
    file = tmp_path / "array.json"
    file.write_text(json.dumps([ROWS[0], 5, {"text": "x"}, ROWS[1]]))
    found = list(read_conversations(file))
    assert [type(row) for row in found] == [Conversation, BadRow, BadRow, Conversation]
    assert [row.source for row in found] == [f"{file}:{i}" for i in (1, 2, 3, 4)]


def test_equal_bytes_under_another_name_may_be_another_kind_of_file(tmp_path):
    (tmp_path / "a.tsv").write_text("question\tanswer\nOne, two?\tThree.\n")
    (tmp_path / "a.csv").write_bytes((tmp_path / "a.tsv").read_bytes())
    (row,) = read_conversations(tmp_path / "a.tsv")
    assert row.messages[0].text == "One, two?"
    (row,) = read_conversations(tmp_path / "a.csv")
    assert row.reason == "no messages"


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "array.json"
    for rows in (ROWS, ROWS[:2]):
        file.write_text(json.dumps(rows))
        assert len(ConversationDataset([file])) == len(rows)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read as data"),
        ("a.json", b'[{"instruction": 1}, ', "the array breaks off"),
        ("a.json", b"<html></html>", "neither JSON, CSV nor Parquet"),
        ("a.json.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], "cannot be read as data"),
        ("a.jsonl", b"", "have no rows"),
    ],
    ids=["LFS", "Parquet", "cut", "HTML", "packed", "empty"],
)
def test_what_is_no_data(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        ConversationDataset([tmp_path / name])
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
    with pytest.raises(UserError, match="no such data file"):
        ConversationDataset([tmp_path / "missing"])
