"""Rows of data files to conversations and back; every check of what a row says is here or in `row_formats.py`."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from vlm_eagle.data.conversation import (
    BadRow,
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)
from vlm_eagle.data.data_files import as_json_lines
from vlm_eagle.data.images import picture_from_data_url
from vlm_eagle.data.row_formats import read_row

_LONGEST_NAME = 4096
_SIZES = ("min_pixels", "max_pixels", "resized_height", "resized_width", "total_pixels", "nframes", "sample_fps")


def parse_conversation(row: Any, source: str, folder: Path) -> Conversation:
    """The conversation in one decoded JSON row. Media paths are relative to `folder` and may not leave it.

    Raises:
        BadRow: with the row's source and what is wrong with it.
    """
    messages, tools = read_row(row, source)
    read_media = lambda value: _media(value, source, folder)
    parsed = parse_messages(messages, source, lambda part: parse_part(part, source, read_media))
    return Conversation(str(row.get("id", source)), parsed, source, tuple(tools))


def parse_messages(messages: Sequence[Any], source: str, parse_part: Callable[[Any], Part]) -> tuple[Message, ...]:
    """Messages with checked roles, order and contents; `parse_part` reads the parts of a content.

    Raises:
        BadRow: with the row's source and what is wrong with it.
    """
    parsed = tuple(_parse_message(message, source, parse_part) for message in messages)
    _check_order(parsed, source)
    return parsed


def text_part(text: Any, source: str) -> TextPart:
    """Raises BadRow for a value that is not Unicode text."""
    if not isinstance(text, str):
        raise BadRow(source, "bad content part", f"expected text, found {str(text)[:80]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(source, "bad text", "the text has a lone surrogate, which is not Unicode") from None
    return TextPart(text)


def read_conversations(file: Path) -> Iterator[Conversation | BadRow]:
    """The rows of a data file in order; a bad row comes as the error that describes it, so nothing is lost silently.

    Raises:
        UserError: there is no such file, or it holds no rows.
    """
    file = Path(file)
    with as_json_lines(file).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield parse_line(line, f"{file}:{number}", file.parent)


def parse_line(line: bytes, source: str, folder: Path) -> Conversation | BadRow:
    """One line of a JSONL file: the conversation, or the error that describes the row."""
    try:
        return parse_conversation(json.loads(line), source, folder)
    except BadRow as error:
        return error.as_value()
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of thousands of digits, too deep
        return BadRow(source, "bad JSON", str(error))


def to_row(conversation: Conversation, folder: Path) -> dict:
    """The JSON object of a conversation whose media are files under `folder`. Inverse of `parse_conversation`."""

    def relative(path: Path | Image.Image) -> str:
        assert isinstance(path, Path), "a picture in memory has no place in a file"
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(folder)).as_posix()

    def part_row(part: Part) -> dict:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text}
        if isinstance(part, ImagePart):
            return {"type": "image", "image": relative(part.image)}
        if isinstance(part.video, tuple):
            return {"type": "video", "video": [relative(frame) for frame in part.video], "fps": part.fps}
        return {"type": "video", "video": relative(part.video), "fps": part.fps}

    messages = []
    for message in conversation.messages:
        row: dict[str, Any] = {"role": message.role, "content": [part_row(part) for part in message.content]}
        row |= {"reasoning_content": message.reasoning} if message.reasoning else {}
        row |= {"tool_calls": tool_calls(message)} if message.tool_calls else {}
        row |= {key: value for key in ("name", "tool_call_id") if (value := getattr(message, key))}
        messages.append(row | ({} if message.learned else {"weight": 0}))
    return {"id": conversation.id, "messages": messages} | ({"tools": list(conversation.tools)} if conversation.tools else {})


def tool_calls(message: Message) -> list[dict[str, Any]]:
    """A message's calls in OpenAI's form, with arguments as objects, which is what chat templates expect."""
    return [
        ({"id": call.id} if call.id else {})
        | {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]


def _parse_message(message: Mapping[str, Any], source: str, parse_part: Callable[[Any], Part]) -> Message:
    role, content = message["role"], message["content"]
    calls = tuple(_tool_call(call, source) for call in message.get("tool_calls") or ())
    reasoning = message.get("reasoning_content") or ""
    if calls and content in (None, ""):
        content = []
    elif isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, (list, tuple)) or not (content or calls):
        raise BadRow(source, "empty content", f"the {role} message has no content")
    parts = tuple(map(parse_part, content))
    if role == "assistant":
        if any(not isinstance(part, TextPart) for part in parts):
            raise BadRow(source, "media in answer", "an assistant's message may hold text only")
    elif calls or reasoning:
        raise BadRow(source, "bad message", f"a {role} message has tool calls or reasoning, which only an assistant's may have")
    built = Message(
        role, parts, text_part(reasoning, source).text, calls, str(message.get("name") or ""),
        str(message.get("tool_call_id") or ""), message.get("learned", True),
    )  # fmt: skip
    if role == "assistant" and not calls and not built.text.strip():
        raise BadRow(source, "empty answer", "an assistant's message is blank")
    return built


def _tool_call(call: Any, source: str) -> ToolCall:
    """OpenAI's form (`function` with `name` and `arguments`, a string or an object) or Qwen's (without `function`)."""
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise BadRow(source, "bad tool call", f"expected a function's name and arguments, found {str(call)[:60]!r}")
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise BadRow(source, "bad tool call", f"the arguments of {inner['name'][:40]!r} are not JSON: {error}") from None
    if not isinstance(arguments, Mapping):
        raise BadRow(source, "bad tool call", f"the arguments of {inner['name'][:40]!r} are not a JSON object")
    return ToolCall(inner["name"], dict(arguments), str(call.get("id") or ""))


def parse_part(part: Any, source: str, read_media: Callable[[Any], Path | Image.Image]) -> Part:
    """Text, an image or a video, in Qwen's form (`image`, `video`), OpenAI's (`image_url`) or transformers' (`path`, `url`).
    `read_media` makes a file or a picture of what stands for one.

    Raises:
        BadRow: another type of part, or a value that cannot be used.
    """
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("text", "input_text", "output_text"):
        return text_part(part.get("text"), source)
    kind = str(kind).removeprefix("input_").removesuffix("_url")
    if kind not in ("image", "video"):
        raise BadRow(source, "bad content part", f"expected type text, image or video, found {str(part)[:80]!r}")
    unread = next((key for key in _SIZES if part.get(key) is not None), None)
    if unread is not None:
        raise BadRow(
            source, "size of its own", f"a part's {unread!r} is not supported. Set the pixel budget for all data instead"
        )
    value = next((part[key] for key in (kind, f"{kind}_url", "path", "url") if part.get(key) is not None), None)
    value = value.get("url") if isinstance(value, Mapping) else value
    if kind == "image":
        return ImagePart(read_media(value))
    fps = part.get("fps", 2.0)
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1000:
        raise BadRow(source, "bad video", f"fps must be a positive number, found {fps!r}")
    if isinstance(value, (list, tuple)) and value:
        return VideoPart(tuple(map(read_media, value)), float(fps))
    if isinstance(value, (list, tuple, Image.Image, bytes)) or value is None:
        raise BadRow(source, "bad content part", f"expected a file or a list of frames, found {type(value).__name__}")
    video = read_media(value)
    if not isinstance(video, Path):
        raise BadRow(source, "bad video", "a video must be a file or a list of frames, found a data URL")
    return VideoPart(video, float(fps))


def _media(value: Any, source: str, folder: Path) -> Path | Image.Image:
    """A file below `folder`, or the picture in a data URL. Links are followed: whoever made them wants them to be."""
    if not isinstance(value, str) or not value:
        raise BadRow(source, "bad content part", f"expected the path of an image or video, found {str(value)[:40]!r}")
    if value[:5].lower() == "data:":
        return picture_from_data_url(value, source)
    address = urlsplit(value) if "://" in value[:16] else None
    if address is not None and address.scheme != "file":
        raise BadRow(source, "address", f"{value[:80]!r} is not fetched. Download it below {folder}, and name the file")
    name = unquote(address.path) if address is not None else value
    if "\0" in name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRow(source, "bad path", f"{name[:80]!r} is not a file name")
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root:
        raise BadRow(
            source, "path leaves folder", f"{name[:80]!r} is outside {folder}. Keep media below it, or put a link there"
        )
    return Path(path)


def _check_order(messages: tuple[Message, ...], source: str) -> None:
    """[system] user assistant user ...; an assistant that calls tools is followed by their results and speaks again."""
    turns = messages[1:] if messages[0].role == "system" else messages
    before: Message | None = None
    for message in turns:
        allowed = {"user"} if before is None else {"assistant"} if before.role == "user" else {"user"}
        if before is not None and before.tool_calls:
            allowed = {"tool"}
        elif before is not None and before.role == "tool":
            allowed = {"tool", "assistant"}
        if message.role not in allowed:
            break
        before = message
    else:
        if turns:
            return
    said = " ".join(message.role for message in messages)
    raise BadRow(source, "roles out of order", f"expected [system] user assistant [tool assistant] ..., found {said[:80]}")
