"""What a sample is: a conversation, free of any model or engine.

One JSON object per line; media are files below the data file's folder and are named by relative path:

    {"id": "kitchen-1", "messages": [
        {"role": "user", "content": [{"type": "image", "image": "images/1.png"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A kettle."}]}

`content` is a string or a list of parts: `{"type": "text", "text": ...}`, `{"type": "image", "image": path}`,
`{"type": "video", "video": path or [frame paths], "fps": frames per second of a frame list (default 2)}`. An assistant's
message may have `reasoning_content` and `tool_calls`, results of tools have the role `tool`, and `tools` beside the messages
describes them, as in OpenAI's API. `row_formats.py` reads other common forms.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_eagle.errors import UserError

ROLES = ("system", "user", "assistant", "tool")


class BadRow(UserError):
    """A row that cannot become a conversation. `reason` is a short key to count by."""

    def __init__(self, source: str, reason: str, detail: str):
        super().__init__(f"{source}: {reason}: {detail}")
        self.source, self.reason, self.detail = source, reason, detail

    def as_value(self) -> "BadRow":
        """To keep or return instead of raising. The one that was raised holds the frames it came through, and with them
        whatever it is kept in: a circle, whose memory only the cycle collector would find."""
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
class ToolCall:
    """A call that an assistant makes; `arguments` is a JSON object."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True)
class Message:
    """What one role says.

    Attributes:
        role: one of `ROLES`.
        content: empty only beside tool calls.
        reasoning: an assistant's thoughts before its answer.
        tool_calls: an assistant's calls, after its text.
        name: the tool whose result this is, where the data tells.
        tool_call_id: the call whose result this is, likewise.
        learned: whether an assistant's message is part of the loss.
    """

    role: str
    content: tuple[Part, ...]
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    learned: bool = True

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True)
class Conversation:
    """Messages in order. `source` is `file:row` and opens every error message about the sample; `tools` are JSON schemas."""

    id: str
    messages: tuple[Message, ...]
    source: str = "<memory>"
    tools: tuple[dict[str, Any], ...] = ()

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
