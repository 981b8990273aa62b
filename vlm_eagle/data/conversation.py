"""What a sample is: a conversation, free of any model or engine.

One JSON object per line; media lie beside the file and are named by relative path:

    {"id": "kitchen-1", "messages": [
        {"role": "user", "content": [{"type": "image", "image": "images/1.png"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A kettle."}]}

`content` is a string or a list of parts: `{"type": "text", "text": ...}`, `{"type": "image", "image": path}`,
`{"type": "video", "video": path or [frame paths], "fps": frames per second of a frame list (default 2)}`. This is the
form that Qwen's own examples use, so a prompt file for a server is a data file here.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_eagle.errors import UserError

ROLES = ("system", "user", "assistant")


class BadRow(UserError):
    """A row that cannot become a conversation. `reason` is a short key to count by."""

    def __init__(self, source: str, reason: str, detail: str):
        super().__init__(f"{source}: {reason}: {detail}")
        self.source, self.reason, self.detail = source, reason, detail

    def as_value(self) -> "BadRow":
        """A copy to keep: an error that was raised holds the frames it came through, and with them whatever it is kept in: a
        circle, whose memory only the cycle collector would find."""
        return BadRow(self.source, self.reason, self.detail)


@dataclass(frozen=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image: a file, or a picture already in memory."""

    image: Path | Image.Image


@dataclass(frozen=True)
class VideoPart:
    """A video: a file, or a list of frames taken at `fps` frames per second."""

    video: Path | tuple[Path | Image.Image, ...]
    fps: float = 2.0


Part = TextPart | ImagePart | VideoPart


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: str
    content: tuple[Part, ...]


@dataclass(frozen=True)
class Conversation:
    """Messages in order. `source` is `file:row` and opens every error message about the sample."""

    id: str
    messages: tuple[Message, ...]
    source: str = "<memory>"

    @property
    def has_media(self) -> bool:
        """Whether any part is an image or a video."""
        return any(not isinstance(part, TextPart) for message in self.messages for part in message.content)

    def prompt(self) -> "Conversation":
        """The conversation without its final answer, ready for the generation prompt."""
        messages = self.messages
        while messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        return replace(self, messages=messages)

    def answered(self, text: str) -> "Conversation":
        """The conversation with `text` as its final answer."""
        return replace(self, messages=(*self.messages, Message("assistant", (TextPart(text),))))

    def asked(self, text: str, images: tuple[Path | Image.Image, ...] = ()) -> "Conversation":
        """The conversation with the user's next turn."""
        return replace(self, messages=(*self.messages, user_message(text, images)))


def user_message(text: str, images: tuple[Path | Image.Image, ...] = ()) -> Message:
    """A user's turn: the images, then the text."""
    return Message("user", (*(ImagePart(image) for image in images), TextPart(text)))


def parse_conversation(row: Any, source: str, folder: Path) -> Conversation:
    """Checks one decoded JSON row. Media paths are resolved against `folder` and may not leave it. Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow(source, "not an object", f"expected a JSON object, found {type(row).__name__}")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRow(source, "no messages", 'expected a non-empty list under "messages"')
    read_path = lambda name: _media_path(name, source, folder)
    parsed = parse_messages(messages, source, lambda part: parse_part(part, source, read_path, read_path))
    return Conversation(str(row.get("id", source)), parsed, source)


def parse_messages(messages: Sequence[Any], source: str, parse_part: Callable[[Any], Part]) -> tuple[Message, ...]:
    """Checks roles, their order and contents; `parse_part` reads what is not a plain string. Raises BadRow."""
    parsed = tuple(_parse_message(message, source, parse_part) for message in messages)
    _check_order(parsed, source)
    return parsed


def text_part(text: Any, source: str) -> TextPart:
    """Raises BadRow for a value that is not Unicode text."""
    if not isinstance(text, str):
        raise BadRow(source, "bad content part", f"expected text, found {str(text)[:80]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(source, "bad text", "the text has a lone surrogate, which is not Unicode") from None
    return TextPart(text)


def read_conversations(file: Path) -> Iterator[Conversation | BadRow]:
    """The rows of a JSONL file, a bad one as the error that describes it. Raises UserError if the file does not exist."""
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file}: no such data file. Give a JSONL file of conversations, one object per line.")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield parse_line(line, f"{file}:{number}", file.parent)


def parse_line(line: bytes, source: str, folder: Path) -> Conversation | BadRow:
    """One line of a JSONL file: the conversation, or the error that describes the row."""
    try:
        return parse_conversation(json.loads(line), source, folder)
    except BadRow as error:
        return error.as_value()
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of thousands of digits, too deep
        return BadRow(source, "bad JSON", str(error))


def to_row(conversation: Conversation, folder: Path) -> dict:
    """The JSON object of a conversation whose media are files under `folder`. Inverse of `parse_conversation`."""

    def relative(path: Path | Image.Image) -> str:
        assert isinstance(path, Path), "a picture in memory has no place in a file"
        return path.resolve().relative_to(folder.resolve()).as_posix()

    def part_row(part: Part) -> dict:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text}
        if isinstance(part, ImagePart):
            return {"type": "image", "image": relative(part.image)}
        if isinstance(part.video, tuple):
            return {"type": "video", "video": [relative(frame) for frame in part.video], "fps": part.fps}
        return {"type": "video", "video": relative(part.video), "fps": part.fps}

    messages = [{"role": m.role, "content": [part_row(part) for part in m.content]} for m in conversation.messages]
    return {"id": conversation.id, "messages": messages}


def _parse_message(message: Any, source: str, parse_part: Callable[[Any], Part]) -> Message:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise BadRow(source, "bad role", f'each message needs a "role" out of {", ".join(ROLES)}')
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, (list, tuple)) or not content:
        raise BadRow(source, "empty content", f"the {message['role']} message has no content")
    parts = tuple(map(parse_part, content))
    if message["role"] == "assistant":
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        if len(texts) < len(parts):
            raise BadRow(source, "media in answer", "an assistant's message may hold text only")
        if not "".join(texts).strip():
            raise BadRow(source, "empty answer", "an assistant's message is blank")
    return Message(message["role"], parts)


def parse_part(
    part: Any, source: str, read_image: Callable[[Any], Path | Image.Image], read_video: Callable[[Any], Path]
) -> Part:
    """A part of a message; the two functions read images (and frames of videos) and the names of video files.

    Raises:
        BadRow: another type of part, or a value that cannot be used.
    """
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return text_part(part.get("text"), source)
    if kind == "image":
        return ImagePart(read_image(part.get("image")))
    if kind == "video":
        video, fps = part.get("video"), part.get("fps", 2.0)
        if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1000:
            raise BadRow(source, "bad video", f"fps must be a positive number, found {fps!r}")
        if isinstance(video, (list, tuple)) and video:
            return VideoPart(tuple(map(read_image, video)), float(fps))
        return VideoPart(read_video(video), float(fps))
    raise BadRow(source, "bad content part", f"expected type text, image or video, found {str(part)[:80]!r}")


def _media_path(name: Any, source: str, folder: Path) -> Path:
    if not isinstance(name, str):
        raise BadRow(source, "bad content part", f"expected a relative path, found {str(name)[:80]!r}")
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # e.g. an embedded NUL, or a symlink to itself
        raise BadRow(source, "bad path", f"{name[:80]!r} is not a file name: {error}") from None
    if not inside:
        raise BadRow(source, "path leaves folder", f"{name!r} is outside {folder}; keep media beside the data file")
    return path


def _check_order(messages: tuple[Message, ...], source: str) -> None:
    roles = [m.role for m in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        raise BadRow(source, "roles out of order", f"expected [system] user assistant user ..., found {' '.join(roles)}")
