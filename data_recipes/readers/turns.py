"""Turns: what a reader makes of a row, before pictures are stored; and the tidying that every source needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_eagle.data.conversation import BadRow

ROLES = {
    "system": "system",
    "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "claude": "assistant",
    "assistant": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A picture as the row gives it: a path, a data URL, bytes or `{"bytes": ..., "path": ...}`."""

    given: Any


Part = str | Picture


@dataclass(frozen=True)
class Turn:
    """What one role says: texts and pictures in order."""

    role: str
    parts: tuple[Part, ...]

    @property
    def blank(self) -> bool:
        """Whether there is neither a picture nor any text."""
        return not any(isinstance(part, Picture) or part.strip() for part in self.parts)


def role_of(name: Any, source: str) -> str:
    """Our role for a source's name of it.

    Raises:
        BadRow: the name is none of `ROLES`; tool calls and their results are such.
    """
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise BadRow(source, "unknown role", f"{name[:40]!r}" if isinstance(name, str) else f"a {type(name).__name__}")
    return role


def text_of(value: Any, source: str) -> str:
    """A message's text.

    Raises:
        BadRow: it is no string.
    """
    if not isinstance(value, str):
        raise BadRow(source, "text missing", f"expected a string, found {type(value).__name__}")
    return value


def items_of(row: Any, keys: Sequence[str], source: str) -> list[dict]:
    """The list of messages of a row, under the first of `keys` that holds one.

    Raises:
        BadRow: the row is no object, there is no such list, or an item of it is no object.
    """
    if not isinstance(row, dict):
        raise BadRow(source, "not an object", f"expected a JSON object, found {type(row).__name__}")
    items = next((row[key] for key in keys if isinstance(row.get(key), list)), None)
    if not items:
        raise BadRow(source, "no messages", f"expected a non-empty list under {' or '.join(keys)}")
    if not all(isinstance(item, dict) for item in items):
        raise BadRow(source, "bad message", "a message is no object")
    return items


def tidy(turns: Sequence[Turn], source: str) -> tuple[list[Turn], list[str]]:
    """Turns as a conversation has them, [system] user assistant ..., and what had to be changed for it.

    Sources cut long conversations anywhere, so that some open with an answer and some end with a question. Neighbouring turns
    of one role are joined; from the first blank message on, nothing can be answered or learned.

    Raises:
        BadRow: no answered question is left.
    """
    changes = []
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            changes.append("turns joined")
            joined[-1] = Turn(turn.role, (*joined[-1].parts, "\n\n", *turn.parts))  # outer blanks go later
        else:
            joined.append(turn)
    opening = 0
    if joined and joined[0].role == "system":
        opening = 1
        if joined[0].blank:
            changes.append("blank system prompt dropped")
            joined, opening = joined[1:], 0
    if len(joined) > opening and joined[opening].role == "assistant":
        changes.append("opening answer dropped")
        del joined[opening]
    end = next((i for i, turn in enumerate(joined) if turn.blank), len(joined))
    if end < len(joined):
        changes.append("cut at a blank message")
        del joined[end:]
    if joined and joined[-1].role == "user":
        changes.append("last question dropped, it has no answer")
        joined.pop()
    if not any(turn.role == "assistant" for turn in joined):
        raise BadRow(source, "no answered question", "no user's turn with an assistant's answer to it")
    return joined, changes
