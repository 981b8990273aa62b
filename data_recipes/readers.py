"""Readers: a row in a common schema becomes messages. Each raises BadRow for what it cannot read, and nothing else.

Messages are `{"role": ..., "content": [parts]}` as in our data files, but an image is still what the row gives: a path, a data
URL, bytes or `{"bytes": ..., "path": ...}`.
"""

import re
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.row_formats import ROLES, refuse_unread

MessageDict = dict[str, Any]

_LISTS = ("messages", "conversations", "conversation")
_MEDIA_KEYS = ("image", "images", "video", "videos")
# How answers open and close in dumps of the web page that were never turned into Markdown, e.g. RyokoAI/ShareGPT52K.
_WEB_PAGE = re.compile(r'\s*<(div|p|ol|ul|pre)(\s+class="[^"]*")?>.*</(div|p|ol|ul|pre)>\s*', re.DOTALL)
_PLACEHOLDER = re.compile(r"[ \t]*\n?<image>\n?")


def read_sharegpt(row: Any, source: str) -> list[MessageDict]:
    """The ShareGPT schema, text only: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}`.

    Its relatives are read too: `messages` or `conversation` for the list, `role` and `content` (EagleChat) or `text` for
    fields, a system prompt beside the list (LLaMA-Factory).
    """
    if isinstance(row, dict) and any(row.get(key) for key in _MEDIA_KEYS):
        raise BadRow(source, "has media", "only text is read here; format-llava reads pictures")
    return _sharegpt_messages(row, source)


def read_llava(row: Any, source: str) -> list[MessageDict]:
    """The LLaVA schema: ShareGPT's with `image`, one picture or a list, and `<image>` in the human's text where each belongs.

    Without any `<image>`, pictures go before the first question. Text-only rows have no `image`, or null.
    """
    return _with_pictures(_sharegpt_messages(row, source, read={"image", "images"}), row, source)


def read_openai(row: Any, source: str) -> list[MessageDict]:
    """OpenAI messages: `{"messages": [{"role": "user", "content": "..." or [parts]}, ...]}`, the form of our own data files.

    Parts are text, `{"type": "image_url", "image_url": {"url": data URL or path}}`, or Qwen's
    `{"type": "image", "image": path}`. Pictures may also stand beside the messages in `images`, as in LLaVA's schema. Tool
    calls and other parts are refused.
    """
    messages = []
    for item in message_items(row, _LISTS, source):
        if item.get("tool_calls"):
            raise BadRow(source, "tool call", "a message calls tools")
        refuse_unread(item, set(), source)
        role, content = _role(item.get("role"), source), item.get("content")
        parts = content if isinstance(content, list) and content else [{"type": "text", "text": content}]
        messages.append({"role": role, "content": [_openai_part(part, source) for part in parts]})
    refuse_unread(row, {*_LISTS, "image", "images"}, source)
    return _with_pictures(messages, row, source) if row.get("image") or row.get("images") else messages


def read_pairs(row: Any, source: str) -> list[MessageDict]:
    """ShareGPT-Chinese-English's schema: `{"conversation": [{"human": text, "assistant": text or null}, ...]}`."""
    messages = []
    for pair in message_items(row, ("conversation",), source):
        messages.append({"role": "user", "content": [text_part(pair.get("human"), source)]})
        if pair.get("assistant") is not None:
            messages.append({"role": "assistant", "content": [text_part(pair["assistant"], source)]})
    return messages


READERS: dict[str, Callable[[Any, str], list[MessageDict]]] = {
    "sharegpt": read_sharegpt, "llava": read_llava, "openai": read_openai, "pairs": read_pairs,
}  # fmt: skip


def tidy(messages: Sequence[MessageDict], source: str) -> tuple[list[MessageDict], list[str]]:
    """Messages in the order of a conversation, [system] user assistant ..., and what had to be changed for it.

    Sources cut long conversations anywhere, so some open with an answer and some end with a question. Neighbouring messages
    of one role are joined; from the first blank message on, nothing can be answered or learned.

    Raises:
        BadRow: no answered question is left.
    """
    changes = []
    joined: list[MessageDict] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            changes.append("turns joined")
            separator = {"type": "text", "text": "\n\n"}  # outer blanks are stripped later
            joined[-1] = {"role": message["role"], "content": [*joined[-1]["content"], separator, *message["content"]]}
        else:
            joined.append(message)
    opening = 0
    if joined and joined[0]["role"] == "system":
        opening = 1
        if _is_blank(joined[0]):
            changes.append("blank system prompt dropped")
            joined, opening = joined[1:], 0
    if len(joined) > opening and joined[opening]["role"] == "assistant":
        changes.append("opening answer dropped")
        del joined[opening]
    end = next((i for i, message in enumerate(joined) if _is_blank(message)), len(joined))
    if end < len(joined):
        changes.append("cut at a blank message")
        del joined[end:]
    if joined and joined[-1]["role"] == "user":
        changes.append("last question dropped, it has no answer")
        joined.pop()
    if not any(message["role"] == "assistant" for message in joined):
        raise BadRow(source, "no answered question", "no user's turn with an assistant's answer to it")
    return joined, changes


def text_part(value: Any, source: str) -> dict[str, str]:
    """A part of text; BadRow if it is not a string."""
    if not isinstance(value, str):
        raise BadRow(source, "text missing", f"expected a string, found {type(value).__name__}")
    return {"type": "text", "text": value}


def image_part(given: Any) -> dict[str, Any]:
    """A picture as the row gives it."""
    return {"type": "image", "image": given}


def check_object(row: Any, source: str) -> None:
    """Raises BadRow if a row is not a JSON object."""
    if not isinstance(row, dict):
        raise BadRow(source, "not an object", f"expected a JSON object, found {type(row).__name__}")


def message_items(row: Any, keys: Sequence[str], source: str) -> list[dict]:
    """The list of messages of a row, under the first of `keys` that holds one."""
    check_object(row, source)
    items = next((row[key] for key in keys if isinstance(row.get(key), list)), None)
    if not items:
        raise BadRow(source, "no messages", f"expected a non-empty list under {' or '.join(keys)}")
    if not all(isinstance(item, dict) for item in items):
        raise BadRow(source, "bad message", "a message is not an object")
    return items


def _with_pictures(messages: list[MessageDict], row: dict[str, Any], source: str) -> list[MessageDict]:
    """The messages with the pictures beside them where `<image>` stands, or else before the first question."""
    given = next((row[key] for key in ("image", "images") if row.get(key) is not None), [])
    pictures = [image_part(one) for one in (given if isinstance(given, list) else [given])]
    questions = [message for message in messages if message["role"] == "user"]
    texts = [part["text"] for question in questions for part in question["content"] if part["type"] == "text"]
    places = sum(len(_PLACEHOLDER.findall(text)) for text in texts)
    if places == 0 and pictures:
        if not questions:
            raise BadRow(source, "no answered question", "pictures, but no question about them")
        questions[0]["content"][:0] = pictures
        return messages
    if places != len(pictures):
        raise BadRow(source, "pictures and places differ", f"{len(pictures)} pictures, {places} times <image>")
    waiting = iter(pictures)
    for question in questions:
        question["content"] = [placed for part in question["content"] for placed in _placed(part, waiting)]
    return messages


def _sharegpt_messages(row: Any, source: str, read: Set[str] = frozenset()) -> list[MessageDict]:
    messages = []
    items = message_items(row, ("conversations", "messages", "conversation"), source)
    refuse_unread(row, {*_LISTS, "system", *read}, source)
    for item in items:
        refuse_unread(item, set(), source)
        text = next((item[key] for key in ("value", "content", "text") if key in item), None)
        messages.append({"role": _role(item.get("from", item.get("role")), source), "content": [text_part(text, source)]})
    if isinstance(row.get("system"), str):
        messages.insert(0, {"role": "system", "content": [text_part(row["system"], source)]})
    if any(message["role"] == "assistant" and _WEB_PAGE.fullmatch(message["content"][0]["text"]) for message in messages):
        raise BadRow(source, "HTML answer", "an answer is HTML of a web page; use a cleaned version")
    return messages


def _role(name: Any, source: str) -> str:
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role not in ("system", "user", "assistant"):
        raise BadRow(source, "unknown role", f"{name[:40]!r}" if isinstance(name, str) else f"a {type(name).__name__}")
    return role


def _openai_part(part: Any, source: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return text_part(part.get("text"), source)
    if kind == "image":
        return image_part(part.get("image"))
    if kind == "image_url":
        url = part.get("image_url")
        return image_part(url.get("url") if isinstance(url, dict) else url)
    found = f", found {kind[:40]!r}" if isinstance(kind, str) else ""
    raise BadRow(source, "bad content part", f"expected text, image or image_url{found}")


def _placed(part: dict[str, Any], waiting: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if part["type"] != "text":
        yield part
        return
    pieces = _PLACEHOLDER.split(part["text"])
    for i, piece in enumerate(pieces):
        if piece.strip():
            yield {"type": "text", "text": piece}
        if i < len(pieces) - 1:
            yield next(waiting)


def _is_blank(message: MessageDict) -> bool:
    return not any(part["type"] == "image" or part["text"].strip() for part in message["content"])
