"""A benchmark: prompts to answer, independent of their origin and of who answers them."""

from dataclasses import dataclass, field
from typing import Literal

from vlm_eagle.data.conversation import Conversation, ImagePart, VideoPart

Modality = Literal["text", "image", "multi-image", "video"]


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        conversation: ends with the user's message; references that a file holds are not shown to the target.
        follow_ups: the user's later turns, each asked after the target's own answer to the one before (MT-bench).
        language: ISO 639-1 code of the question.
        category: the benchmark's own division, such as a subject, if it has any.
    """

    conversation: Conversation
    follow_ups: tuple[str, ...] = ()
    language: str = "en"
    category: str | None = None

    @property
    def id(self) -> str:
        """Unique within the benchmark."""
        return self.conversation.id

    @property
    def has_media(self) -> bool:
        """Whether answering needs the vision tower."""
        return self.conversation.has_media

    @property
    def modality(self) -> Modality:
        """What the prompt shows besides text."""
        parts = [part for message in self.conversation.messages for part in message.content]
        if any(isinstance(part, VideoPart) for part in parts):
            return "video"
        images = sum(isinstance(part, ImagePart) for part in parts)
        return ("text", "image")[images] if images < 2 else "multi-image"


@dataclass
class Benchmark:
    """Prompts to answer.

    Attributes:
        name: as in the tables.
        prompts: in the order of the results.
        skipped: reason -> count of data rows that could not become prompts.
        max_new_tokens: the benchmark's usual limit, if it has one.
        citation: its source; empty for the demo's and the user's own files.
    """

    name: str
    prompts: list[Prompt]
    skipped: dict[str, int] = field(default_factory=dict)
    max_new_tokens: int | None = None
    citation: str = ""


def chinese_or_english(text: str) -> str:
    """`zh` if Chinese characters outnumber Latin letters, else `en`."""
    han = sum("\u4e00" <= character <= "\u9fff" for character in text)
    latin = sum(character.isascii() and character.isalpha() for character in text)
    return "zh" if han > latin else "en"
