"""Multiple-choice questions as they are put to a chat model: the question, then a line per option.

No instruction to answer with a letter alone: such answers are one token long, and a draft has nothing to guess in them.
"""

import ast
import re
from collections.abc import Callable, Sequence

from vlm_eagle.data.conversation import BadRow

from .pictures import RowPicture

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_LIST = 20_000  # characters of a list of options written as Python text
_PLACE = re.compile(r"<image (\d{1,2})>")


def with_options(question: str, options: Sequence[str]) -> str:
    """`A. first`, `B. second`, ... under the question."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.rstrip(), *lines])


def parse_options(text: str, source: str) -> list[str]:
    """Options that a field holds as the text of a Python list, as MMMU's do.

    Raises:
        BadRow: the text is no list of texts.
    """
    try:
        if len(text) > _LONGEST_LIST or text.count("[") + text.count("(") + text.count("{") > 200:  # the parser's stack
            raise ValueError("too long")
        options = ast.literal_eval(text.strip())
        if not isinstance(options, (list, tuple)) or not all(isinstance(option, (str, int, float)) for option in options):
            raise ValueError("not a list of texts")
        return [str(option) for option in options]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise BadRow(source, "bad field", f"options should be a list, found {text[:60]!r} ({error})") from None


def interleaved(text: str, picture: Callable[[int], RowPicture]) -> list[str | RowPicture]:
    """Pictures where `<image N>` stands for them the first time; later mentions say which is meant.

    Args:
        text: the question with its options.
        picture: the picture with this number.
    """
    parts: list[str | RowPicture] = []
    seen: set[int] = set()
    pieces = _PLACE.split(text)
    for piece, number in zip(pieces[::2], [*pieces[1::2], None], strict=True):
        parts.append(piece)
        if number is not None and int(number) in seen:
            parts.append(f"image {int(number)}")
        elif number is not None:
            seen.add(int(number))
            parts.append(picture(int(number)))
    return parts
