"""Messages of a source to a row of our data, its pictures stored, its identity taken from its content."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_recipes.pictures import PictureShelf
from data_recipes.readers import MessageDict
from vlm_eagle.data.conversation_rows import parse_conversation

_NOT_WORD = re.compile(r"[\W_]+")


def draw_digest(messages: Sequence[MessageDict]) -> bytes:
    """What a row's place in a draw depends on: roles, texts, and pictures as the row names them, none of them opened."""
    digest = hashlib.blake2b(digest_size=16)
    for message in messages:
        digest.update(f"\0{message['role']}\0".encode())
        for part in message["content"]:
            if part["type"] == "image":
                digest.update(b"\1" + _picture_name(part["image"]))
            else:
                digest.update(part["text"].encode("utf-8", "replace"))
    return digest.digest()


def convert(messages: Sequence[MessageDict], source: str, name: str, folder: Path, shelf: PictureShelf) -> dict[str, Any]:
    """A row as `vlm_eagle.data.conversation` reads it, of tidy messages; pictures are stored under and relative to `folder`.

    Raises:
        BadRow: a picture cannot be stored, or the whole is not a conversation.
    """
    converted = []
    for message in messages:
        content = [
            {"type": "image", "image": shelf.store(part["image"], source).relative_to(folder).as_posix()}
            if part["type"] == "image"
            else part
            for part in message["content"]
        ]
        converted.append({"role": message["role"], "content": _simplified(content)})
    row = {"id": "", "messages": converted}
    parse_conversation(row, source, folder)  # what is written here can be read again
    row["id"] = f"{name}-{content_digest(row):016x}"
    return row | {"source": source}


def content_digest(row: dict[str, Any]) -> int:
    """64 bits of roles, texts and pictures."""
    return _hash(repr([(message["role"], message["content"]) for message in row["messages"]]))


def split_key(row: dict[str, Any]) -> int:
    """64 bits that conversations about one picture, or with one first question, have in common."""
    pictures = images_of(row)
    if pictures:
        return _hash(f"\1{pictures[0]}")
    question = next(message["content"] for message in row["messages"] if message["role"] == "user")
    return _hash(_NOT_WORD.sub(" ", question.casefold()).strip() or question)


def images_of(row: dict[str, Any]) -> list[str]:
    """The files of a converted row's pictures."""
    parts = (part for message in row["messages"] for part in parts_of(message))
    return [part["image"] for part in parts if part["type"] == "image"]


def parts_of(message: MessageDict) -> list[dict[str, Any]]:
    """The content of a message as parts, also where it is a plain string."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _simplified(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
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


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _picture_name(given: Any) -> bytes:
    if isinstance(given, dict):
        given = given["bytes"] if given.get("bytes") is not None else given.get("path")
    if isinstance(given, bytes | bytearray):
        return hashlib.blake2b(given, digest_size=16).digest()
    return given.encode("utf-8", "replace") if isinstance(given, str) else type(given).__name__.encode()
