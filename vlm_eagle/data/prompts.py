"""Prompts as users give them: a string, OpenAI-style messages, or a conversation, with pictures in any common form."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from vlm_eagle.data.conversation import BadRow, Conversation, user_message
from vlm_eagle.data.conversation_rows import parse_messages, parse_part
from vlm_eagle.data.images import picture_from_bytes, picture_from_data_url
from vlm_eagle.data.row_formats import read_message
from vlm_eagle.errors import UserError

Picture = str | Path | Image.Image | bytes  # a path, a data URL, a picture in memory, or an image file's bytes
Messages = Sequence[Mapping[str, object]]
Prompt = str | Messages | Conversation
Prompts = Prompt | Sequence[Prompt]

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def read_prompts(prompts: Prompts) -> list[Conversation]:
    """One conversation per prompt. A string, a conversation and a list of messages are each one prompt.

    Raises:
        UserError: with the number of the prompt, counted from 1.
    """
    if isinstance(prompts, (str, Conversation)):
        return [read_prompt(prompts)]
    if not isinstance(prompts, Sequence) or not prompts:
        raise UserError(f"{_short(prompts)} is not a prompt. Give a string, a list of messages, or a list of prompts.")
    if isinstance(prompts[0], Mapping):
        return [read_prompt(prompts)]  # type: ignore[arg-type] # a list is of messages or of prompts, as its first item says
    return [read_prompt(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]  # type: ignore[arg-type]


def read_prompt(prompt: Prompt, source: str = "prompt") -> Conversation:
    """The conversation that a prompt stands for. `source` opens every error message about it.

    Raises:
        UserError: not a prompt, or a media address; nothing is ever fetched. Files are not opened yet.
    """
    if isinstance(prompt, Conversation):
        return prompt
    if isinstance(prompt, str):
        return Conversation(source, (user_message(prompt),), source)
    if not isinstance(prompt, Sequence) or not prompt:
        raise BadRow(source, "no prompt", f"expected a string or a list of messages, found {_short(prompt)}")
    read_media = lambda value: read_picture(value, source)
    told = [read_message(message, source) for message in prompt]
    messages = parse_messages(told, source, lambda part: parse_part(part, source, read_media))
    if messages[-1].role == "assistant":
        raise BadRow(source, "nothing to answer", "the last message is the assistant's. End with the user's")
    return Conversation(source, messages, source)


def read_picture(value: object, source: str) -> Path | Image.Image:
    """A file's path, or a picture whose pixels are not decoded yet.

    Raises:
        BadRow: a web address, broken base64, bytes that are not an image, or too many of them.
    """
    if isinstance(value, (Path, Image.Image)):
        return value
    if isinstance(value, bytes):
        return picture_from_bytes(value, source)
    if isinstance(value, str) and value[:5].lower() == "data:":
        return picture_from_data_url(value, source)
    if isinstance(value, str) and value:
        return _path(value, source)
    raise BadRow(source, "bad image", f"expected a path, a PIL picture, bytes or a data URL, found {_short(value)}")


def _path(name: str, source: str) -> Path:
    if _ADDRESS.match(name):
        raise BadRow(
            source, "address", f"{name[:80]!r} is not fetched. Download it, and give the file's path, its bytes or a data URL"
        )
    if "\0" in name:
        raise BadRow(source, "bad path", f"{name[:80]!r} is not a file name")
    return Path(name).expanduser()


def _short(value: object) -> str:
    return (
        f"{type(value).__name__} {str(value)[:60]!r}" if isinstance(value, (str, int, float, Mapping)) else type(value).__name__
    )
