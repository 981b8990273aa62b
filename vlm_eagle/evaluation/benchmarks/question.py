"""What an entry makes of a row: a question, whose pictures nobody has written anywhere yet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vlm_eagle.data.benchmark import Prompt
from vlm_eagle.data.conversation import Conversation, ImagePart, Message, TextPart

from .pictures import Picture

_LONGEST_ID = 100  # characters; a longer one gives way to the question's own digest


@dataclass(frozen=True)
class Question:
    """One row's question.

    Attributes:
        parts: what the user says, pictures where they stand.
        source: `file:row`.
        language: ISO 639-1.
        id: the row's own, unique within the benchmark; None where rows have none.
        follow_ups: the user's later turns.
        category: the benchmark's own division.
    """

    parts: tuple[str | Picture, ...]
    source: str
    language: str
    id: str | None = None
    follow_ups: tuple[str, ...] = ()
    category: str | None = None

    @property
    def text(self) -> str:
        """All that is asked in words."""
        return "\n".join([*(part for part in self.parts if isinstance(part, str)), *self.follow_ups])

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its images in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def key(self) -> str:
        """The row's id, or a digest of its content: the same wherever the row stands in its file."""
        if self.id is not None and len(self.id) <= _LONGEST_ID:
            return self.id
        content = "\0".join([self.id or "", self.text, *(picture.key for picture in self.pictures)])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def rank(self, seed: int) -> tuple[str, ...]:
        """Its place in a random order. The pictures decide only between rows that are alike in all else, so that a benchmark
        with its images embedded gives the same selection as one with files."""
        drawn = hashlib.sha256(f"{seed}\0{self.id or ''}\0{self.text}".encode()).hexdigest()
        return (drawn, *(picture.key for picture in self.pictures))

    def prompt(self, id_: str, images: Path) -> Prompt:
        """The question as a prompt; embedded pictures become files in `images`."""
        parts = tuple(TextPart(part) if isinstance(part, str) else ImagePart(part.file(images)) for part in self.parts)
        conversation = Conversation(id_, (Message("user", parts),), self.source)
        return Prompt(conversation, self.follow_ups, self.language, self.category)
