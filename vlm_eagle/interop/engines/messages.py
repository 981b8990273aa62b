"""Conversations as serving engines read them: chat messages with pictures as base64 data URLs."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from qwen_vl_utils import fetch_image

from vlm_eagle.data.collator import template_message
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, TextPart, VideoPart
from vlm_eagle.data.images import open_image

Prepare = Callable[[Image.Image], Image.Image]


def resizer(processor: Any) -> Prepare:
    """Brings pictures to the size our own processor would give them, so that an engine has nothing left to resample."""
    size = {"min_pixels": processor.size["shortest_edge"], "max_pixels": processor.size["longest_edge"]}
    return lambda picture: fetch_image({"image": picture, **size}, image_patch_size=processor.patch_size)


def chat_messages(conversation: Conversation, prepare: Prepare | None = None, *, by_path: bool = False) -> list[dict[str, Any]]:
    """The messages of an OpenAI-compatible chat request; pictures go through `prepare` first, or stay where they are and
    are named by a file:// address.

    Raises:
        BadRow: an unusable picture, or a video (engines choose other frames than we do).
    """
    messages = []
    for message in conversation.messages:
        row = template_message(message)  # the same text that our own chat template is given
        if not isinstance(row["content"], str):
            row["content"] = [_part(part, conversation.source, prepare, by_path) for part in message.content]
        messages.append(row)
    return messages


def data_urls(conversation: Conversation, prepare: Prepare | None = None) -> list[str]:
    """The pictures alone, in order; errors as in `chat_messages`."""
    return [
        part["image_url"]["url"]
        for message in chat_messages(conversation, prepare)
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


def _part(part: Any, source: str, prepare: Prepare | None, by_path: bool) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart) and by_path:
        assert isinstance(part.image, Path), "a picture in memory has no address"
        if not part.image.is_file():
            raise BadRow(source, "image missing", f"{part.image} does not exist")
        return {"type": "image_url", "image_url": {"url": part.image.resolve().as_uri()}}
    if isinstance(part, ImagePart):
        picture = open_image(part.image, source)
        return {"type": "image_url", "image_url": {"url": data_url(prepare(picture) if prepare else picture)}}
    assert isinstance(part, VideoPart)
    raise BadRow(source, "has video", "videos are not sent to engines, which would choose other frames than we do")


def data_url(picture: Image.Image) -> str:
    """The picture as a PNG, so that no pixel changes on the way."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
