"""A data row in any common form, as messages with their media in place.

| form | keys |
|---|---|
| OpenAI, TRL, ms-swift, LLaMA-Factory, ours | `messages`: `role`, `content` |
| ShareGPT, LLaVA | `conversations`: `from`, `value`; `system` beside them |
| Alpaca | `instruction`, `input`, `output`; `system` and `history` beside them |
| pairs | `prompt`, `query` or `question`; `response`, `completion`, `answer` or `output` |

Media are parts of `content`, or stand beside the messages in `images` / `image` / `videos` / `video`: in the places of
`<image>` and `<video>` in the text, or before the first question where the text has no such places. A field that may hold
content and is not read makes the row unusable, because a draft trained without it would guess wrong whenever the target uses it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlm_eagle.data.conversation import BadRow

ROLES = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "claude": "assistant",
    "assistant": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
MEDIA = {"images": "image", "image": "image", "videos": "video", "video": "video"}
QUESTIONS, ANSWERS = ("prompt", "query", "question"), ("response", "completion", "answer", "output")
_LISTS = ("messages", "conversations", "conversation")
_PLACE = re.compile(r"[ \t]*\n?<(image|video)>\n?")
_CONTENT = re.compile(  # names of fields that may hold something the target would read or write
    r"audios?|media|pictures?|photos?|frames|objects|tools?|functions?|(tool|function)_calls?|reason(ing)?(_content)?|think(ing)?|"
    r"thoughts?|rationale|documents?|attachments?|files?|system(_prompt)?|history|chosen|rejected(_.+)?|images?|videos?"
)
_SWITCHES = ("loss", "weight", "train", "trainable", "learn")  # per message: whether it is learned


def messages_of(row: Any, source: str) -> list[dict[str, Any]]:
    """The messages of a row as `{"role": ..., "content": text or parts}`, media parts with their values.

    Raises:
        BadRow: no form that is known, or content in a field that is not read.
    """
    if not isinstance(row, Mapping):
        raise BadRow(source, "not an object", f"expected a JSON object, found {type(row).__name__}")
    messages, read = _told(row, source)
    media = {kind: [] for kind in ("image", "video")}
    for name in MEDIA:
        given = row.get(name)
        media[MEDIA[name]] += given if isinstance(given, list) else [] if given in (None, "") else [given]
    _refuse_unread(row, {*read, *MEDIA}, source)
    return _placed(messages, media, source) if any(media.values()) else messages


def _told(row: Mapping[str, Any], source: str) -> tuple[list[dict[str, Any]], set[str]]:
    """The messages as a row's form tells them, and the fields that were read."""
    name = next((name for name in _LISTS if isinstance(row.get(name), (list, tuple))), None)
    if name is not None:
        messages = [_message(item, source) for item in row[name]]
        read = {name}
    elif "instruction" in row:
        text = "\n".join(filter(None, (_text(row[key], source) for key in ("instruction", "input") if row.get(key))))
        messages = [*_history(row.get("history"), source), _said("user", text), _answer(row, source)]
        read = {"instruction", "input", "history", *ANSWERS}
    elif (name := next((name for name in QUESTIONS if row.get(name)), None)) is not None:
        asked = row[name]
        turns = [_message(item, source) for item in asked] if isinstance(asked, list) else [_said("user", _text(asked, source))]
        messages = [*_history(row.get("history"), source), *turns, _answer(row, source)]
        read = {name, "history", *ANSWERS}
    else:
        raise BadRow(source, "no messages", f"expected messages, conversations, instruction or prompt; found {_names(row)}")
    if not messages:
        raise BadRow(source, "no messages", f"{name!r} is empty")
    if row.get("system"):
        messages.insert(0, _said("system", _text(row["system"], source)))
    return messages, read | {"system"}


def _message(item: Any, source: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise BadRow(source, "bad message", f"expected an object for each message, found {type(item).__name__}")
    name = item.get("role", item.get("from"))
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(sorted(set(ROLES.values())))
        raise BadRow(source, "bad role", f"a message's role is {str(name)[:40]!r}; roles that are read: {known}")
    _refuse_unread(item, set(), source)
    switch = next((key for key in _SWITCHES if item.get(key) is not None and item[key] in (0, False)), None)
    if switch is not None:
        raise BadRow(source, "message switched off", f"{switch!r} excludes a message from the loss, which is not supported")
    content = next((item[key] for key in ("content", "value", "text") if item.get(key) is not None), None)
    return {"role": role, "content": content}


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _answer(row: Mapping[str, Any], source: str) -> dict[str, Any]:
    name = next((name for name in ANSWERS if row.get(name)), None)
    if name is None:
        raise BadRow(source, "no answer", f"expected one of {', '.join(ANSWERS)}; found {_names(row)}")
    given = row[name]
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], Mapping):
        return _message(given[0], source)
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


def _refuse_unread(fields: Mapping[str, Any], read: set[str], source: str) -> None:
    for name, value in fields.items():
        if name not in read and _CONTENT.fullmatch(str(name).lower()) and value not in (None, "", [], {}, "[]", "null"):
            raise BadRow(source, "content not read", f"the field {str(name)[:40]!r} may hold content that is not supported yet")


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


def _filled(content: Any, waiting: Mapping[str, Iterator[Any]], source: str) -> Iterator[dict[str, Any]]:
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
        value = next((value[key] for key in ("path", "url", "image", "video") if isinstance(value.get(key), str)), None)
    if isinstance(value, str) or (kind == "video" and isinstance(value, list)):
        return {"type": kind, kind: value}
    raise BadRow(source, f"bad {kind}", f"expected the path of each {kind}, found {type(value).__name__}")


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(map(str, row))[:8])) or "no field"
