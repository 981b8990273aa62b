"""Rows as people have them, in every common form: all that they say arrives, or the row is refused with the field's name."""

import json
from pathlib import Path

import pytest

from vlm_eagle.data.conversation import BadRow, ImagePart, Message, TextPart, ToolCall, VideoPart
from vlm_eagle.data.conversation_rows import parse_conversation, to_row
from vlm_eagle.data.row_formats import read_row

USER, ANSWER = {"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "Red."}
WEATHER = {"name": "weather", "description": "The weather of a city.", "parameters": {"type": "object", "properties": {}}}


def read(row, folder="/data"):
    return parse_conversation(row, "rows.jsonl:7", Path(folder))


def plain(row) -> list[tuple[str, object]]:
    """(role, its text or what each part is) of every message."""

    def short(part):
        if isinstance(part, TextPart):
            return part.text
        return f"image {part.image.name}" if isinstance(part, ImagePart) else f"video {part.video.name}"

    return [(message.role, [short(part) for part in message.content]) for message in read(row).messages]


BRIEF, QUESTION, ANSWERED = ("system", ["Be brief."]), ("user", ["Colour?"]), ("assistant", ["Red."])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [USER, ANSWER]}, [QUESTION, ANSWERED]),
        ({"messages": [{"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "Red."}]}, [QUESTION, ANSWERED]),
        (
            {
                "conversations": [{"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "Red."}],
                "system": "Be brief.",
            },
            [BRIEF, QUESTION, ANSWERED],
        ),
        (
            {"messages": [{"role": "developer", "content": "Be brief."}, USER, ANSWER]},
            [BRIEF, QUESTION, ANSWERED],
        ),
        ({"instruction": "Colour?", "input": "", "output": "Red."}, [QUESTION, ANSWERED]),
        (
            {"instruction": "Name the colour.", "input": "a rose", "output": "Red."},
            [("user", ["Name the colour.\na rose"]), ANSWERED],
        ),
        (
            {"instruction": "Colour?", "output": "Red.", "history": [["Hi", "Hello."]], "system": "Be brief."},
            [("system", ["Be brief."]), ("user", ["Hi"]), ("assistant", ["Hello."]), QUESTION, ANSWERED],
        ),
        ({"query": "Colour?", "response": "Red."}, [QUESTION, ANSWERED]),
        ({"prompt": "Colour?", "completion": "Red."}, [QUESTION, ANSWERED]),
        ({"prompt": [USER], "completion": [ANSWER]}, [QUESTION, ANSWERED]),
        ({"question": "Colour?", "answer": "Red."}, [QUESTION, ANSWERED]),
    ],
)
def test_forms(row, expected):
    assert plain(row) == expected


ASKED = {"role": "user", "content": "<image>Colour?"}
SEEN = ("user", ["image a.png", "Colour?"])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ASKED, ANSWER], "images": ["a.png"]}, [SEEN, ANSWERED]),
        ({"messages": [USER, ANSWER], "images": ["a.png"]}, [SEEN, ANSWERED]),
        ({"messages": [ASKED, ANSWER], "image": "a.png"}, [SEEN, ANSWERED]),
        ({"messages": [ASKED, ANSWER], "images": [{"path": "a.png", "bytes": None}]}, [SEEN, ANSWERED]),
        ({"messages": [{"role": "user", "content": "<video>\nColour?"}, ANSWER], "videos": ["a.mp4"]},
         [("user", ["video a.mp4", "Colour?"]), ANSWERED]),
        ({"conversations": [{"from": "human", "value": "<video>\nColour?"}, {"from": "gpt", "value": "Red."}],
          "video": "a.mp4"},
         [("user", ["video a.mp4", "Colour?"]), ANSWERED]),
        ({"query": "<image>Colour?", "response": "Red.", "images": ["a.png"]}, [SEEN, ANSWERED]),
        ({"instruction": "<image>Colour?", "output": "Red.", "images": ["a.png"]}, [SEEN, ANSWERED]),
        (
            {"messages": [{"role": "user", "content": "First <image> then\n<image>"}, ANSWER, ASKED, ANSWER],
             "images": ["1.png", "2.png", "a.png"]},
            [("user", ["First", "image 1.png", " then", "image 2.png"]), ANSWERED, SEEN, ANSWERED],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Colour?"}]}, ANSWER],
             "images": ["a.png"]},
            [SEEN, ANSWERED],
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "Colour?"}]},
                       ANSWER]}, [SEEN, ANSWERED]),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}},
                                                    {"type": "text", "text": "Colour?"}]}, ANSWER]}, [SEEN, ANSWERED]),
        ({"messages": [ASKED, {"role": "assistant", "content": "An <image> tag."}], "images": ["a.png"]},
         [SEEN, ("assistant", ["An <image> tag."])]),
        ({"messages": [{"role": "user", "content": "What does <image> mean?"}, ANSWER]},
         [("user", ["What does <image> mean?"]), ANSWERED]),
    ],
)  # fmt: skip
def test_media_stand_in_their_places(row, expected):
    assert plain(row) == expected


CALL = ToolCall("weather", {"city": "Oslo"}, "c1")
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}
SAID = {"role": "assistant", "content": "Cold."}


@pytest.mark.parametrize(
    "call",
    [
        {"content": None, "tool_calls": [{"id": "c1", "type": "function",
                                          "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
        {"content": "", "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
        {"tool_calls": [{"id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}]},
    ],
    ids=["OpenAI", "object", "Qwen"],
)  # fmt: skip
def test_calls_and_results(call):
    found = read({"messages": [USER, {"role": "assistant", **call}, RESULT, SAID], "tools": [WEATHER]})
    assert found.messages[1:] == (
        Message("assistant", (TextPart(""),) if call.get("content") == "x" else (), tool_calls=(CALL,)),
        Message("tool", (TextPart("4 degrees"),), tool_call_id="c1"),
        Message("assistant", (TextPart("Cold."),)),
    )
    assert found.tools == ({"type": "function", "function": WEATHER},)


def test_calls_of_older_and_of_sharegpts_form():
    older = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    result = {"role": "function", "name": "weather", "content": "4 degrees"}
    first = read({"messages": [USER, older, result, SAID]})
    assert first.messages[1].tool_calls == (ToolCall("weather", {"city": "Oslo"}),)
    assert (first.messages[2].role, first.messages[2].name) == ("tool", "weather")
    told = [("human", "Colour?"), ("function_call", '{"name": "weather", "arguments": {"city": "Oslo"}}'),
            ("observation", "4 degrees"), ("gpt", "Cold.")]  # fmt: skip
    second = read({"conversations": [{"from": who, "value": text} for who, text in told], "tools": json.dumps([WEATHER])})
    assert second.messages[1] == first.messages[1]
    assert [message.role for message in second.messages] == ["user", "assistant", "tool", "assistant"]
    assert second.tools == ({"type": "function", "function": WEATHER},)


def test_parallel_calls_and_text_beside_them():
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    row = {"messages": [USER, {"role": "assistant", "content": "Let me look.", "tool_calls": calls}, RESULT, RESULT, SAID]}
    found = read(row)
    assert [call.arguments["city"] for call in found.messages[1].tool_calls] == ["Oslo", "Rome"]
    assert found.messages[1].text == "Let me look."


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_and_switches(name):
    found = read({"messages": [USER, ANSWER | {name: "A rose.", "weight": 0}, USER, ANSWER | {"weight": 1, "loss": None}]})
    assert [(message.reasoning, message.learned) for message in found.messages[1::2]] == [("A rose.", False), ("", True)]


def test_all_of_it_is_written_and_read_again(tmp_path):
    call = {
        "role": "assistant",
        "content": "Look.",
        "tool_calls": [{"id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}],
    }
    row = {"id": "x", "messages": [ASKED, call | {"reasoning": "Hm."}, RESULT, SAID | {"weight": 0}], "images": ["a.png"],
           "tools": [WEATHER]}  # fmt: skip
    found = read(row, tmp_path)
    again = read(json.loads(json.dumps(to_row(found, tmp_path))), tmp_path)
    assert again == found


BAD = {
    "no messages": [{"text": "Once upon a time."}, {"conversations": []}, {}],
    "no answer": [{"instruction": "Do it."}, {"prompt": "What?"}],
    "bad history": [{"instruction": "a", "output": "b", "history": ["x"]}],
    "text missing": [{"instruction": 5, "output": "b"}, {"prompt": "a", "response": {"x": 1}}],
    "bad role": [{"messages": [{"role": "robot", "content": "hi"}]}],
    "content not read": [
        {"messages": [USER, ANSWER], "audio": ["a.wav"]},
        {"messages": [USER, ANSWER], "documents": [{"text": "x"}]},
        {"messages": [USER | {"images": ["a.png"]}, ANSWER]},
        {"prompt": "a", "chosen": "b", "rejected": "c", "response": "d"},
        {"messages": [USER, ANSWER | {"audio": {"id": "1"}}]},
    ],
    "media and places differ": [
        {"messages": [ASKED, ANSWER], "images": ["a.png", "b.png"]},
        {"messages": [{"role": "user", "content": "<image><image>?"}, ANSWER], "images": ["a.png"]},
        {"messages": [ASKED, ANSWER], "videos": ["a.mp4"]},
    ],
    "media without a question": [{"messages": [ANSWER], "images": ["a.png"]}],
    "bad image": [{"messages": [ASKED, ANSWER], "images": [5]}, {"messages": [ASKED, ANSWER], "images": [{"size": 3}]}],
    "bad tools": [{"messages": [USER, ANSWER], "tools": "not JSON"}, {"messages": [USER, ANSWER], "tools": {"name": "f"}}],
    "bad tool call": [{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "f(x)"}]}],
}


@pytest.mark.parametrize(("expected", "row"), [(reason, row) for reason, rows in BAD.items() for row in rows])
def test_what_is_not_understood_is_refused(expected, row):
    with pytest.raises(BadRow) as caught:
        read(row)
    assert caught.value.reason == expected
    assert len(str(caught.value)) < 200


def test_fields_that_hold_no_content_do_not_matter():
    more = {
        "id": 3,
        "source": "web",
        "tools": [],
        "images": [],
        "audio": None,
        "category": "colour",
        "file": "a.txt",
        "reason": "stop",
        "turns": 1,
        "model": "gpt",
    }
    assert (
        read({"messages": [USER, ANSWER | {"tool_calls": None, "refusal": None, "id": "m"}], **more}).messages[1].text == "Red."
    )
    assert read_row({"messages": [USER, ANSWER], "system": ""}, "")[0][0]["role"] == "user"


def test_a_video_keeps_its_rate():
    frames = {"type": "video", "video": ["1.png", "2.png"], "fps": 4}
    (part,) = read({"messages": [{"role": "user", "content": [frames]}, ANSWER]}).messages[0].content
    assert isinstance(part, VideoPart)
    assert (len(part.video), part.fps) == (2, 4.0)
