"""A row becomes a Conversation, or a BadRow that names file and row; never anything else."""

import copy
import inspect
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_eagle.data import conversation
from vlm_eagle.data import conversation_rows as module
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, Message, TextPart, VideoPart
from vlm_eagle.data.conversation_rows import parse_conversation, parse_line, read_conversations, to_row
from vlm_eagle.errors import UserError

SOURCE, FOLDER = "rows.jsonl:3", Path("/data")
USER, ANSWER = {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A kettle."}
SYSTEM = {"role": "system", "content": "Be brief."}
RICH = {
    "id": "kitchen-1",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "images/1.png"},
                {"type": "video", "video": "clip.mp4", "fps": 2.0},
                {"type": "video", "video": ["f/1.png", "f/2.png"], "fps": 4.5},
                {"type": "text", "text": "是什么?"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "A kettle."}]},
    ],
}


def asked(part) -> dict:
    """A row whose user says one part."""
    return {"messages": [{"role": "user", "content": [part]}, ANSWER]}


def said(content) -> dict:
    return {"messages": [USER, {"role": "assistant", "content": content}]}


def image(name) -> dict:
    return asked({"type": "image", "image": name})


def video(**fields) -> dict:
    return asked({"type": "video", "video": "clip.mp4", **fields})


BAD_ROWS = {
    "not an object": [[1], "x", None, 3],
    "no messages": [{}, {"messages": []}, {"messages": {"role": "user"}}, {"messages": None}],
    "bad message": [
        {"messages": ["hi"]}, {"messages": [{**USER, "tool_calls": [{"name": "f"}]}, ANSWER]},
        {"messages": [{**USER, "reasoning": "Hm."}, ANSWER]},
    ],
    "bad tool call": [
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": calls}]}
        for calls in (["f"], [{}], [{"name": ""}], [{"name": "f", "arguments": "{"}], [{"name": "f", "arguments": "[1]"}],
                      [{"function": None}], [{"function": {"name": 3}}], [{"name": "f", "arguments": 5}])
    ],
    "address": [image("https://example.org/1.png"), video(video="s3://bucket/1.mp4")],
    "size of its own": [asked({"type": "image", "image": "1.png", "max_pixels": 99}), video(nframes=8)],
    "bad role": [{"messages": [{"content": "hi"}]}, {"messages": [{**USER, "role": ["user"]}]}],
    "empty content": [{"messages": [{**USER, "content": content}, ANSWER]} for content in (None, [], {}, 5)],
    "media in answer": [said([{"type": "image", "image": "1.png"}]), said([{"type": "video", "video": "1.mp4"}])],
    "empty answer": [said(""), said(" \n"), said([{"type": "text", "text": "\t"}])],
    "bad video": [video(fps=fps) for fps in (0, -1, True, "2", None, float("nan"), float("inf"), 1000)],
    "bad content part": [
        asked("hi"), asked({"text": "hi"}), asked({"type": "audio"}), asked({"type": "text"}), image(5), image(None),
        video(video=[]), video(video=["1.png", 2]), video(video=None),
    ],
    "bad text": [asked({"type": "text", "text": "\ud800"}), said("a lone surrogate: \udfff")],  # JSON can spell them
    "bad path": [image("a\0.png"), image("\ud800.png"), video(video=["1.png", "\0"])],
    "path leaves folder": [
        image("../1.png"), image("a/../../1.png"), image("/etc/passwd"), video(video="../1.mp4"), video(video=["1", "../2"]),
    ],
    "roles out of order": [
        {"messages": messages}
        for messages in ([ANSWER], [USER, USER], [SYSTEM], [USER, SYSTEM], [SYSTEM, SYSTEM, USER], [USER, ANSWER, ANSWER])
    ],
}  # fmt: skip


def reason(row, folder: Path = FOLDER) -> str:
    with pytest.raises(BadRow) as caught:
        parse_conversation(row, SOURCE, folder)
    assert caught.value.source == SOURCE
    assert str(caught.value).startswith(f"{SOURCE}: {caught.value.reason}: ")
    return caught.value.reason


@pytest.mark.parametrize(("expected", "row"), [(key, row) for key, rows in BAD_ROWS.items() for row in rows])
def test_bad_rows_say_why(expected, row):
    assert reason(row) == expected


def test_every_reason_for_refusing_a_row_is_tested():
    assert set(re.findall(r'raise BadRow\(source, "([^"]+)"', inspect.getsource(module))) <= set(BAD_ROWS) | {"bad JSON"}


def test_a_row_becomes_exactly_this_conversation():
    image, clip = ImagePart(FOLDER / "images/1.png"), VideoPart(FOLDER / "clip.mp4", 2.0)
    frames = VideoPart((FOLDER / "f/1.png", FOLDER / "f/2.png"), 4.5)
    user = Message("user", (image, clip, frames, TextPart("是什么?")))
    system, answer = Message("system", (TextPart("Be brief."),)), Message("assistant", (TextPart("A kettle."),))
    parsed = parse_conversation(RICH, SOURCE, FOLDER)
    assert parsed == Conversation("kitchen-1", (system, user, answer), SOURCE)
    assert parsed.prompt().messages == (system, user)
    assert parsed.prompt().answered("A kettle.") == parsed


def test_short_forms_and_defaults():
    parsed = parse_conversation({"messages": [USER]}, SOURCE, FOLDER)
    assert parsed == Conversation(SOURCE, (Message("user", (TextPart("What is it?"),)),), SOURCE)
    assert not parsed.has_media
    assert parse_conversation({"id": 7, **video()}, SOURCE, FOLDER).id == "7"
    assert parse_conversation(video(), SOURCE, FOLDER).messages[0].content == (VideoPart(FOLDER / "clip.mp4", 2.0),)
    assert parse_conversation(image("a/../b.png"), SOURCE, FOLDER).messages[0].content == (ImagePart(FOLDER / "b.png"),)


def test_the_example_in_the_docstring_parses():
    example = re.search(r"^    (\{.*?\}\]\})$", conversation.__doc__, re.DOTALL | re.MULTILINE)[1]
    assert parse_conversation(json.loads(example), SOURCE, FOLDER).has_media


def test_to_row_is_the_inverse_of_parsing():
    assert to_row(parse_conversation(RICH, SOURCE, FOLDER), FOLDER) == RICH


def test_links_that_the_user_made_are_followed(tmp_path):
    """A link in the folder leads where its maker wants; only the names in a data file must stay in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "pics").mkdir()
    (folder / "images").symlink_to(tmp_path / "pics")
    (folder / "one.png").symlink_to(tmp_path / "pics" / "1.png")
    for name in ("images/1.png", "one.png", f"{folder}/images/1.png", f"file://{folder}/one.png"):
        (part,) = parse_conversation(image(name), SOURCE, folder).messages[0].content
        assert part == ImagePart(folder / Path(name.removeprefix("file://").removeprefix(f"{folder}/")))
    assert reason(image("images/../../pics/1.png"), folder) == "path leaves folder"
    through = tmp_path / "link to data"
    through.symlink_to(folder)
    assert parse_conversation(image("one.png"), SOURCE, through).messages[0].content == (ImagePart(through / "one.png"),)
    conversation = parse_conversation(image("images/1.png"), SOURCE, folder)
    assert parse_conversation(to_row(conversation, folder), SOURCE, folder).messages == conversation.messages


def test_a_symlink_to_itself_is_a_bad_row(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    result = parse_line(json.dumps(image("loop.png")).encode(), SOURCE, tmp_path)
    assert isinstance(result, BadRow) or not result.messages[0].content[0].image.exists()


@pytest.mark.parametrize("line", [b"{", b'{"id": "\xff"}', b"[" * 100_000, b'{"id": ' + b"1" * 5000 + b"}"])
def test_lines_that_json_cannot_read_are_bad_rows(line):
    result = parse_line(line, SOURCE, FOLDER)
    assert isinstance(result, BadRow)
    assert (result.reason, result.source) == ("bad JSON", SOURCE)


def test_read_conversations_counts_every_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    good = json.dumps({"messages": [USER, ANSWER]})
    file.write_text(f"{good}\n\n  \nbroken\n{good}\n{{}}\n")
    rows = list(read_conversations(file))
    assert [row.source for row in rows] == [f"{file}:{n}" for n in (1, 4, 5, 6)]
    assert [getattr(row, "reason", None) for row in rows] == [None, "bad JSON", None, "no messages"]
    with pytest.raises(UserError, match=r"missing\.jsonl: no such data file"):
        next(read_conversations(tmp_path / "missing.jsonl"))


def places(value, path=()):
    """The path of every value inside a JSON value, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, item in inner for place in places(item, (*path, key))]


def put(value, path, new):
    if not path:
        return new
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


KEYS = st.sampled_from(["role", "content", "type", "text", "image", "video", "fps"]) | st.text(st.characters())
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(place=st.sampled_from(places(RICH)), junk=ANY_JSON)
def test_any_value_in_any_field_gives_a_conversation_or_a_bad_row(place, junk):
    result = parse_line(json.dumps(put(copy.deepcopy(RICH), place, junk)).encode(), SOURCE, FOLDER)
    if not isinstance(result, BadRow):
        assert parse_conversation(to_row(result, FOLDER), SOURCE, FOLDER) == result
