"""A row of a source to a conversation in our form, its pictures stored, its identity taken from its content."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.pictures import PictureShelf
from data_recipes.readers.turns import Picture, Turn
from vlm_eagle.data.conversation_rows import parse_conversation

_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Converted:
    """A conversation as it will be written, and what must be known of it before the rest is.

    Attributes:
        row: `{"id": ..., "messages": ...}` as `vlm_eagle.data.conversation` reads it, media relative to the output folder.
        digest: 64 bits of its content: roles, texts, pictures.
        split_key: 64 bits that conversations about one picture, or with one first question, have in common.
    """

    row: dict
    digest: int
    split_key: int


def draw_digest(turns: Sequence[Turn]) -> bytes:
    """What a row's place in a draw depends on: roles, texts, and pictures as the row names them, none of them opened."""
    digest = hashlib.blake2b(digest_size=16)
    for turn in turns:
        digest.update(f"\0{turn.role}\0".encode())
        for part in turn.parts:
            digest.update(b"\1" + _named(part.given) if isinstance(part, Picture) else part.encode("utf-8", "replace"))
    return digest.digest()


def convert(turns: Sequence[Turn], source: str, name: str, folder: Path, shelf: PictureShelf) -> Converted:
    """The conversation of tidy turns; its pictures are stored under `folder`.

    Raises:
        BadRow: a picture cannot be stored, or the whole is no conversation.
    """
    messages, pictures = [], []
    for turn in turns:
        content: list[dict] = []
        for part in turn.parts:
            if isinstance(part, Picture):
                file = shelf.store(part.given, source).relative_to(folder).as_posix()
                pictures.append(file)
                content.append({"type": "image", "image": file})
            else:
                content.append({"type": "text", "text": part})
        messages.append({"role": turn.role, "content": _simple(content)})
    row = {"id": "", "messages": messages}
    parse_conversation(row, source, folder)  # what is written here can be read again
    digest = _number(repr([(m["role"], m["content"]) for m in messages]))
    row["id"] = f"{name}-{digest:016x}"
    return Converted(row, digest, _number(f"\1{pictures[0]}" if pictures else _first_question(messages)))


def _simple(content: list[dict]) -> str | list[dict]:
    """Texts without outer blanks, neighbours joined; a plain string where there is no picture."""
    joined: list[dict] = []
    for part in content:
        if joined and part["type"] == joined[-1]["type"] == "text":
            joined[-1] = {"type": "text", "text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    joined = [{"type": "text", "text": part["text"].strip()} if part["type"] == "text" else part for part in joined]
    joined = [part for part in joined if part["type"] != "text" or part["text"]]
    return joined[0]["text"] if [part["type"] for part in joined] == ["text"] else joined


def _first_question(messages: list[dict]) -> str:
    text = next(m["content"] for m in messages if m["role"] == "user")
    return _NOT_WORD.sub(" ", text.casefold()).strip() or text


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _named(given: Any) -> bytes:
    if isinstance(given, dict):
        given = given["bytes"] if given.get("bytes") is not None else given.get("path")
    if isinstance(given, bytes | bytearray):
        return hashlib.blake2b(given, digest_size=16).digest()
    return given.encode("utf-8", "replace") if isinstance(given, str) else type(given).__name__.encode()
