"""Pictures of a row that moves to another folder. A data file may only name what lies beside it."""

import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from vlm_eagle.data.conversation import Conversation, ImagePart, Part, VideoPart

FOLDER = "media"


class Media:
    """Puts files under `folder`/media: hard links where the file system allows, copies otherwise. What lies under `folder`
    already stays where it is. The same file is placed once, whichever run asks."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def placed(self, conversation: Conversation) -> Conversation:
        """The conversation with all its files under `folder`. One that does not exist (any more) keeps its name there, so that
        the row's reader says what is missing."""
        messages = tuple(replace(m, content=tuple(map(self._part, m.content))) for m in conversation.messages)
        return replace(conversation, messages=messages)

    def _part(self, part: Part) -> Part:
        if isinstance(part, ImagePart):
            return ImagePart(self._file(part.image))
        if isinstance(part, VideoPart):
            video = part.video
            return replace(part, video=tuple(map(self._file, video)) if isinstance(video, tuple) else self._file(video))
        return part

    def _file(self, file: Path) -> Path:
        file = file.resolve()
        if file.is_relative_to(self.folder):
            return file
        name = sha256(str(file.parent).encode()).hexdigest()[:12]
        place = self.folder / FOLDER / name / file.name
        if not place.exists() and file.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            scratch = place.with_name(f".{os.getpid()}.{place.name}")
            scratch.unlink(missing_ok=True)
            try:
                os.link(file, scratch)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, scratch)
            scratch.replace(place)
        return place
