"""The LLaVA schema: ShareGPT's turns with `image`, one picture or a list, and `<image>` in the human's text where each stands.

Text-only rows have no `image`, or null, and no `<image>`.
"""

import re
from collections.abc import Iterator
from typing import Any

from data_recipes.readers import sharegpt
from data_recipes.readers.turns import Part, Picture, Turn
from vlm_eagle.data.conversation import BadRow

_PLACE = re.compile(r"[ \t]*\n?<image>\n?")


def read(row: Any, source: str) -> list[Turn]:
    """The turns of a row, pictures in the places of `<image>`; without any such place, before the first question.

    Raises:
        BadRow: the row is not in this schema, or it has not as many pictures as places for them.
    """
    turns = sharegpt.turns_of(row, source)
    pictures = pictures_of(row)
    places = sum(len(_PLACE.findall(turn.parts[0])) for turn in turns if turn.role == "user")
    if places == 0 and pictures:
        first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
        if first is None:
            raise BadRow(source, "no answered question", "pictures, but no question about them")
        turns[first] = Turn("user", (*pictures, *turns[first].parts))
        return turns
    if places != len(pictures):
        raise BadRow(source, "pictures and places differ", f"{len(pictures)} pictures, {places} times <image>")
    waiting = iter(pictures)
    return [Turn(turn.role, tuple(_placed(turn.parts[0], waiting))) if turn.role == "user" else turn for turn in turns]


def pictures_of(row: dict) -> list[Picture]:
    """The pictures of a row, from `image` or `images`: one, a list, or none."""
    given = next((row[key] for key in ("image", "images") if row.get(key) is not None), [])
    return [Picture(one) for one in (given if isinstance(given, list) else [given])]


def _placed(text: str, waiting: Iterator[Picture]) -> Iterator[Part]:
    texts = _PLACE.split(text)
    for i, piece in enumerate(texts):
        if piece.strip():
            yield piece
        if i < len(texts) - 1:
            yield next(waiting)
