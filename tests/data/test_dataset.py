"""Rows by byte offset: the same rows, in the same order and with the same names, as reading the file from its start."""

import json

import pytest

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.errors import UserError


def row(text: str, image: str | None = None) -> bytes:
    content = [{"type": "text", "text": text}] + ([{"type": "image", "image": image}] if image else [])
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode()


def texts(dataset: ConversationDataset) -> list[str]:
    """What the user says in each row; for a bad row its reason."""
    items = [dataset[i] for i in range(len(dataset))]
    return [item.reason if isinstance(item, BadRow) else item.messages[0].content[0].text for item in items]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.jsonl"


AWKWARD = {  # file -> what the user says, row numbers
    "blank lines": (b"\n" + row("a") + b"\n\n \t\n" + row("b") + b"\n\n", ["a", "b"], [2, 5]),
    "more bytes than characters": (b"\n".join([row("你好" * 50), row("é\u2028\x85".encode().decode()), row("c"), b""]),
                                   ["你好" * 50, "é\u2028\x85", "c"], [1, 2, 3]),
    "CRLF": (row("a") + b"\r\n\r\n" + row("b") + b"\r\n", ["a", "b"], [1, 3]),
    "no newline at the end": (row("a") + b"\n" + row("b"), ["a", "b"], [1, 2]),
    "one row": (row("a"), ["a"], [1]),
    "bad rows": (b"{\n" + row("a") + b"\n[]\n" + row("b", "../up.png") + b"\n" + row("c"),
                 ["bad JSON", "a", "not an object", "path leaves folder", "c"], [1, 2, 3, 4, 5]),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_rows_of_awkward_files(file, name):
    content, expected, numbers = AWKWARD[name]
    file.write_bytes(content)
    dataset = ConversationDataset([str(file)])
    assert texts(dataset) == expected
    assert [dataset[i].source for i in range(len(dataset))] == [f"{file}:{n}" for n in numbers]
    assert [repr(dataset[i]) for i in range(len(dataset))] == [repr(item) for item in read_conversations(file)]


def test_files_follow_each_other_and_are_read_in_any_order(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "sub" / "b.jsonl"
    second.parent.mkdir()
    first.write_bytes(row("1") + b"\n" + row("2"))
    second.write_bytes(b"\n" + row("3", "images/3.png"))
    dataset = ConversationDataset([first, second])
    assert [dataset[i].messages[0].content[0].text for i in (2, 0, 1, 2)] == ["3", "1", "2", "3"]
    assert dataset[2].source == f"{second}:2"
    assert dataset[2].messages[0].content[1].image == tmp_path / "sub" / "images" / "3.png"
    with pytest.raises(IndexError):
        dataset[3]


def test_drop_media_keeps_text_and_bad_rows(file):
    file.write_bytes(b"\n".join([row("a"), row("b", "1.png"), b"{", row("c", "2.png"), row("d")]))
    dataset = ConversationDataset([file])
    assert dataset.drop_media() == {"has media": 2}
    assert texts(dataset) == ["a", "bad JSON", "d"]
    assert dataset[2].source == f"{file}:5"
    assert dataset.drop_media() == {}


def test_drop_media_refuses_to_leave_nothing(file):
    file.write_bytes(row("b", "1.png"))
    with pytest.raises(UserError, match="All rows have images or videos"):
        ConversationDataset([file]).drop_media()


def test_missing_and_empty_files(file):
    with pytest.raises(UserError, match=r"rows\.jsonl: no such data file"):
        ConversationDataset([file])
    with pytest.raises(UserError, match="is a folder, not a data file"):
        ConversationDataset([file.parent])
    file.write_bytes(b"\n \r\n")
    with pytest.raises(UserError, match="have no rows"):
        ConversationDataset([file])
