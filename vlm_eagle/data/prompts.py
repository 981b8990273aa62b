"""What a user may ask, as conversations: a string, OpenAI-style messages, or a conversation; pictures in any common form."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from vlm_eagle.data.conversation import (
    BadRow,
    Conversation,
    ImagePart,
    Part,
    VideoPart,
    user_message,
)
from vlm_eagle.data.conversation_rows import parse_messages, text_part
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
        raise UserError(f"{_short(prompts)} is no prompt. Give a string, a list of messages, or a list of prompts.")
    if isinstance(prompts[0], Mapping):
        return [read_prompt(prompts)]  # type: ignore[arg-type] # a list is of messages or of prompts, as its first item says
    return [read_prompt(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]  # type: ignore[arg-type]


def read_prompt(prompt: Prompt, source: str = "prompt") -> Conversation:
    """The conversation that a prompt stands for. `source` opens every error message about it.

    Raises:
        UserError: no prompt, or a media address; nothing is ever fetched. Files are not opened yet.
    """
    if isinstance(prompt, Conversation):
        return prompt
    if isinstance(prompt, str):
        return Conversation(source, (user_message(prompt),), source)
    if not isinstance(prompt, Sequence) or not prompt:
        raise BadRow(source, "no prompt", f"expected a string or a list of messages, found {_short(prompt)}")
    messages = parse_messages([read_message(message, source) for message in prompt], source, lambda part: _part(part, source))
    if messages[-1].role == "assistant":
        raise BadRow(source, "nothing to answer", "the last message is the assistant's. End with the user's")
    return Conversation(source, messages, source)


def read_picture(value: object, source: str) -> Path | Image.Image:
    """A file's path, or a picture whose pixels are not decoded yet.

    Raises:
        BadRow: an address on the net, broken base64, bytes that are no image, or too many of them.
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


def _part(part: object, source: str) -> Part:
    if isinstance(part, Mapping):
        kind = part.get("type")
        if kind == "text":
            return text_part(part.get("text"), source)
        if kind == "image":
            return ImagePart(read_picture(part.get("image"), source))
        if kind == "image_url":
            url = part.get("image_url")
            return ImagePart(read_picture(url.get("url") if isinstance(url, Mapping) else url, source))
        if kind == "video":
            return _video(part.get("video"), part.get("fps", 2.0), source)
    raise BadRow(source, "bad content part", f"expected type text, image, image_url or video, found {_short(part)}")


def _video(video: object, fps: object, source: str) -> VideoPart:
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1000:
        raise BadRow(source, "bad video", f"fps must be a positive number, found {fps!r}")
    if isinstance(video, (list, tuple)) and video:
        return VideoPart(tuple(read_picture(frame, source) for frame in video), float(fps))
    if isinstance(video, Path) or (isinstance(video, str) and video):
        return VideoPart(_path(str(video), source), float(fps))
    raise BadRow(source, "bad video", f"expected a file or a list of frames, found {_short(video)}")


def _path(name: str, source: str) -> Path:
    if _ADDRESS.match(name):
        raise BadRow(
            source, "address", f"{name[:80]!r} is not fetched. Download it, and give the file's path, its bytes or a data URL"
        )
    if "\0" in name:
        raise BadRow(source, "bad path", f"{name[:80]!r} is no file name")
    return Path(name).expanduser()


def _short(value: object) -> str:
    return (
        f"{type(value).__name__} {str(value)[:60]!r}" if isinstance(value, (str, int, float, Mapping)) else type(value).__name__
    )
