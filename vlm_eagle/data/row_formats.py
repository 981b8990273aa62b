"""A data row in any common form, as messages with their media in place.

| form | keys |
|---|---|
| OpenAI, TRL, ms-swift, LLaMA-Factory, ours | `messages`: `role`, `content` |
| ShareGPT, LLaVA | `conversations`: `from`, `value`; `system` beside them |
| Alpaca | `instruction`, `input`, `output`; `system` and `history` beside them |
| pairs | `prompt`, `query` or `question`; `response`, `completion`, `answer` or `output` |

Tool calls, their results, thoughts and per-message switches are brought to OpenAI's form, also from ShareGPT's `function_call`
and `observation`.

Media are parts of `content`, or stand beside the messages in `images` / `image` / `videos` / `video`: in the places of
`<image>` and `<video>` in the text, or before the first question where the text has no such places. A field that may hold
content and is not read makes the row unusable: a draft trained without it would guess wrong whenever the target uses it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlm_eagle.data.conversation import BadRow

ROLES = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "claude": "assistant",
    "assistant": "assistant", "model": "assistant", "bot": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
    "function_call": "call", "tool_call": "call",
}  # fmt: skip
MEDIA = {"images": "image", "image": "image", "videos": "video", "video": "video"}
QUESTIONS, ANSWERS = ("prompt", "query", "question"), ("response", "completion", "answer", "output")
_LISTS = ("messages", "conversations", "conversation")
_TEXTS = ("content", "value", "text")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_SWITCHES = ("loss", "weight", "train", "trainable")  # of a message: whether it is learned
_SOURCES = ("bytes", "path", "url", "image", "video")  # of a medium; bytes of a table are a data URL by now
_PLACE = re.compile(r"[ \t]*\n?<(image|video)>\n?")
_CONTENT = re.compile(  # names of fields that may hold something the target would read or write
    r"audios?|media|pictures?|photos?|frames|objects|tools?|functions?|(tool|function)_calls?|reasoning(_content)?|thinking|"
    r"thoughts?|rationale|documents?|attachments?|system(_prompt)?|history|chosen|rejected(_.+)?|images?|videos?"
)
# every field of a row that is read; all others are the user's own
FIELDS = {*_LISTS, *MEDIA, *QUESTIONS, *ANSWERS, "instruction", "input", "history", "system", "tools"}
_EMPTY = (None, "", [], {}, "[]", "null")


def read_row(row: Any, source: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages of a row, in OpenAI's form with media in their places, and the tools that it offers.

    Raises:
        BadRow: the form is unknown, or content stands in a field that is not read.
    """
    if not isinstance(row, Mapping):
        raise BadRow(source, "not an object", f"expected a JSON object, found {type(row).__name__}")
    messages, read = _told(row, source)
    media: dict[str, list[Any]] = {"image": [], "video": []}
    for name, kind in MEDIA.items():
        given = row.get(name)
        media[kind] += given if isinstance(given, list) else [] if given in _EMPTY else [given]
    refuse_unread(row, {*read, *MEDIA, "tools"}, source)
    return _placed(messages, media, source) if any(media.values()) else messages, _tools(row.get("tools"), source)


def _told(row: Mapping[str, Any], source: str) -> tuple[list[dict[str, Any]], set[str]]:
    """The messages as a row's form tells them, and the fields that were read."""
    name = next((name for name in _LISTS if isinstance(row.get(name), (list, tuple))), None)
    if name is not None:
        messages = [read_message(item, source) for item in row[name]]
        read = {name}
    elif "instruction" in row:
        text = "\n".join(_text(row[key], source) for key in ("instruction", "input") if row.get(key))
        messages = [*_history(row.get("history"), source), _said("user", text), _answer(row, source)]
        read = {"instruction", "input", "history", *ANSWERS}
    elif (name := next((name for name in QUESTIONS if row.get(name)), None)) is not None:
        asked = row[name]
        turns = (
            [read_message(item, source) for item in asked] if isinstance(asked, list) else [_said("user", _text(asked, source))]
        )
        messages = [*_history(row.get("history"), source), *turns, _answer(row, source)]
        read = {name, "history", *ANSWERS}
    else:
        raise BadRow(source, "no messages", f"expected messages, conversations, instruction or prompt; found {_names(row)}")
    if not messages:
        raise BadRow(source, "no messages", f"{name!r} is empty")
    if row.get("system"):
        messages.insert(0, _said("system", _text(row["system"], source)))
    return messages, read | {"system"}


def read_message(item: Any, source: str) -> dict[str, Any]:
    """One message in OpenAI's form, from any that `read_row` knows. Raises BadRow likewise."""
    if not isinstance(item, Mapping):
        raise BadRow(source, "bad message", f"expected an object for each message, found {type(item).__name__}")
    name = item.get("role", item.get("from"))
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(sorted(set(ROLES.values()) - {"call"}))
        raise BadRow(source, "bad role", f"a message's role is {str(name)[:40]!r}; roles that are read: {known}")
    refuse_unread(item, {"tool_calls", "function_call", *_THOUGHTS}, source)
    content = next((item[key] for key in _TEXTS if item.get(key) is not None), None)
    if role == "call":  # ShareGPT's way: the calls are the message's text
        return _said("assistant", "") | {"tool_calls": _parsed_calls(content, source)}
    message = {"role": role, "content": content, "learned": all(item.get(key) not in (0, False) for key in _SWITCHES)}
    message |= {key: item[key] for key in ("name", "tool_call_id") if item.get(key)}
    calls = item.get("tool_calls") or ([item["function_call"]] if item.get("function_call") else [])
    thoughts = next((item[key] for key in _THOUGHTS if item.get(key)), None)
    return message | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": thoughts} if thoughts else {})


def _parsed_calls(text: Any, source: str) -> list[Any]:
    try:
        calls = json.loads(text)
    except (TypeError, ValueError) as error:
        raise BadRow(source, "bad tool call", f"a message of role function_call is not JSON: {error}") from None
    return calls if isinstance(calls, list) else [calls]


def _tools(given: Any, source: str) -> list[dict[str, Any]]:
    """Descriptions of tools: a list of objects, or its JSON text, as LLaMA-Factory has it."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except ValueError as error:
            raise BadRow(source, "bad tools", f"the tools are not JSON: {error}") from None
    if given in _EMPTY:
        return []
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in given):
        raise BadRow(source, "bad tools", f"expected a list of objects under 'tools', found {type(given).__name__}")
    return [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in given]


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _answer(row: Mapping[str, Any], source: str) -> dict[str, Any]:
    name = next((name for name in ANSWERS if row.get(name)), None)
    if name is None:
        raise BadRow(source, "no answer", f"expected one of {', '.join(ANSWERS)}; found {_names(row)}")
    given = row[name]
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], Mapping):
        return read_message(given[0], source)
    return _said("assistant", _text(given, source))


def _history(pairs: Any, source: str) -> list[dict[str, Any]]:
    """Alpaca's and ms-swift's earlier turns: [question, answer] each."""
    if not pairs:
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise BadRow(source, "bad history", "expected a list of [question, answer] pairs")
    return [_said(role, _text(text, source)) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]


def _text(value: Any, source: str) -> str:
    if not isinstance(value, str):
        raise BadRow(source, "text missing", f"expected a string, found {type(value).__name__}")
    return value


def refuse_unread(fields: Mapping[str, Any], read: set[str], source: str) -> None:
    """Raises BadRow for a field that may hold content and is not among those that were read."""
    for name, value in fields.items():
        if name not in read and _CONTENT.fullmatch(str(name).lower()) and value not in _EMPTY:
            raise BadRow(source, "content not read", f"the field {str(name)[:40]!r} may hold content, and is not supported")


def _placed(messages: Sequence[dict[str, Any]], media: Mapping[str, list[Any]], source: str) -> list[dict[str, Any]]:
    """The messages with every medium in its place: a mark in the text, or a part that names no file."""
    asked = [message for message in messages if message["role"] != "assistant"]
    places = [kind for message in asked for kind in _places(message["content"])]
    counts = {kind: places.count(kind) for kind in media}
    if not places:
        first = next((message for message in messages if message["role"] == "user"), None)
        if first is None:
            raise BadRow(source, "media without a question", "no user's message to which they could belong")
        parts = [_part(kind, value, source) for kind, values in media.items() for value in values]
        before = [{**message} for message in messages]
        before[messages.index(first)]["content"] = [*parts, *_as_parts(first["content"])]
        return before
    for kind, values in media.items():
        if counts[kind] != len(values):
            raise BadRow(
                source,
                "media and places differ",
                f"{len(values)} {kind}s, and <{kind}> stands {counts[kind]} times in the text",
            )
    waiting = {kind: iter(values) for kind, values in media.items()}
    return [
        message
        if message["role"] == "assistant"
        else {**message, "content": list(_filled(message["content"], waiting, source))}
        for message in messages
    ]


def _as_parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _is_place(part: Any) -> bool:
    """A part such as `{"type": "image"}`, whose value stands beside the messages (TRL, datasets on the hub)."""
    return (
        isinstance(part, Mapping)
        and part.get("type") in ("image", "video")
        and not any(value for key, value in part.items() if key not in ("type", "text", "index"))
    )


def _places(content: Any) -> Iterator[str]:
    for part in _as_parts(content):
        if _is_place(part):
            yield part["type"]
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield from _PLACE.findall(part["text"])


def _filled(content: Any, waiting: Mapping[str, Iterator[Any]], source: str) -> Iterator[Mapping[str, Any]]:
    for part in _as_parts(content):
        if _is_place(part):
            yield _part(part["type"], next(waiting[part["type"]]), source)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            pieces = _PLACE.split(part["text"])  # text, kind, text, kind, ..., text
            for i, piece in enumerate(pieces):
                if i % 2:
                    yield _part(piece, next(waiting[piece]), source)
                elif piece.strip():
                    yield {"type": "text", "text": piece}
        else:
            yield part


def _part(kind: str, value: Any, source: str) -> dict[str, Any]:
    """A medium beside the messages: its path, address or data URL, or an object that holds one."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in _SOURCES if isinstance(value.get(key), str) and value[key]), None)
    if isinstance(value, str) or (kind == "video" and isinstance(value, list)):
        return {"type": kind, kind: value}
    raise BadRow(source, f"bad {kind}", f"expected the path of each {kind}, found {type(value).__name__}")


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(map(str, row))[:8])) or "no field"
