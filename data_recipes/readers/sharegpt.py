"""The ShareGPT schema: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}`.

Its relatives are read too: `messages` or `conversation` for the list, `role` and `content` (EagleChat) or `text` for fields,
a system prompt beside the list (LLaMA-Factory).
"""

import re
from typing import Any

from data_recipes.readers.turns import Turn, items_of, role_of, text_of
from vlm_eagle.data.conversation import BadRow

LISTS = ("conversations", "messages", "conversation")
MEDIA = ("image", "images", "video", "videos")
# How answers open and close in dumps of the web page that were never turned into Markdown, e.g. RyokoAI/ShareGPT52K.
_WEB_PAGE = re.compile(r'\s*<(div|p|ol|ul|pre)(\s+class="[^"]*")?>.*</(div|p|ol|ul|pre)>\s*', re.DOTALL)


def read(row: Any, source: str) -> list[Turn]:
    """The turns of a row of text.

    Raises:
        BadRow: the row is not in this schema, its answers are HTML, or there is a picture to its words.
    """
    turns = turns_of(row, source)
    if any(row.get(key) for key in MEDIA):
        raise BadRow(source, "has media", "only text is read here; format-llava reads pictures")
    return turns


def turns_of(row: Any, source: str) -> list[Turn]:
    """What is said in a row, pictures beside it or not.

    Raises:
        BadRow: the row is not in this schema, or its answers are HTML.
    """
    items = items_of(row, LISTS, source)
    turns = [Turn(role_of(speaker(item), source), (text_of(value(item), source),)) for item in items]
    if isinstance(row.get("system"), str):
        turns.insert(0, Turn("system", (row["system"],)))
    if any(turn.role == "assistant" and _WEB_PAGE.fullmatch(turn.parts[0]) for turn in turns):
        raise BadRow(source, "HTML answer", "an answer is HTML of a web page; use a cleaned version")
    return turns


def speaker(item: dict) -> Any:
    """Who speaks in a message."""
    return item.get("from", item.get("role"))


def value(item: dict) -> Any:
    """What a message says."""
    return next((item[key] for key in ("value", "content", "text") if key in item), None)
