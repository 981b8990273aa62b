"""Pictures of a row that moves to another folder. A data file may only name what is below its own folder."""

import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from vlm_eagle.atomic import atomic_path
from vlm_eagle.data.conversation import Conversation, ImagePart, Part, VideoPart


def place_media(conversation: Conversation, folder: Path) -> Conversation:
    """The conversation with all its files under `folder`: in media/ as hard links where the file system allows, else as copies.

    A file that is under `folder` already stays; the same file is placed once, whichever run asks. One that does not exist (any
    more) keeps its new name, so that the row's reader says what is missing.
    """
    messages = (replace(m, content=tuple(_placed_part(part, folder) for part in m.content)) for m in conversation.messages)
    return replace(conversation, messages=tuple(messages))


def _placed_part(part: Part, folder: Path) -> Part:
    if isinstance(part, ImagePart):
        return ImagePart(_placed(part.image, folder))
    if isinstance(part, VideoPart):
        video = part.video
        placed = tuple(_placed(frame, folder) for frame in video) if isinstance(video, tuple) else _placed(video, folder)
        return replace(part, video=placed)
    return part


def _placed(file: Path, folder: Path) -> Path:
    file, folder = file.resolve(), folder.resolve()
    if file.is_relative_to(folder):
        return file
    place = folder / "media" / sha256(str(file.parent).encode()).hexdigest()[:12] / file.name
    if not place.exists() and file.is_file():
        with atomic_path(place) as scratch:
            scratch.unlink(missing_ok=True)
            try:
                os.link(file, scratch)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, scratch)
    return place
