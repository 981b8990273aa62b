"""OpenAI messages: `{"messages": [{"role": "user", "content": "..." or [parts]}, ...]}`; our own data files are such.

Parts: `{"type": "text", "text": ...}`, `{"type": "image_url", "image_url": {"url": data URL or path}}`, and Qwen's form
`{"type": "image", "image": path}`.
"""

from typing import Any

from data_recipes.readers.turns import Part, Picture, Turn, items_of, role_of, text_of
from vlm_eagle.data.conversation import BadRow

LISTS = ("messages", "conversations", "conversation")


def read(row: Any, source: str) -> list[Turn]:
    """The turns of a row.

    Raises:
        BadRow: the row is not in this schema, calls tools, or holds parts other than text and pictures.
    """
    return [_turn(item, source) for item in items_of(row, LISTS, source)]


def _turn(item: dict, source: str) -> Turn:
    if item.get("tool_calls"):
        raise BadRow(source, "tool call", "a message calls tools")
    role, content = role_of(item.get("role"), source), item.get("content")
    if isinstance(content, list) and content:
        return Turn(role, tuple(_part(part, source) for part in content))
    return Turn(role, (text_of(content, source),))


def _part(part: Any, source: str) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return text_of(part.get("text"), source)
    if kind == "image":
        return Picture(part.get("image"))
    if kind == "image_url":
        url = part.get("image_url")
        return Picture(url.get("url") if isinstance(url, dict) else url)
    raise BadRow(
        source,
        "bad content part",
        "expected text, image or image_url" + (f", found {kind[:40]!r}" if isinstance(kind, str) else ""),
    )
