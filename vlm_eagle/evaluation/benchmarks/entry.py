"""A benchmark in the table, a row of its file, and the question that a row becomes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vlm_eagle.data.benchmark import Modality, Prompt
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, Message, TextPart

from .pictures import RowPicture, read_picture

MAX_ID_LENGTH = 100  # characters; a longer id is replaced by a digest of the question
MAX_NAMES_SHOWN = 12  # field names that an error lists
MAX_NUMBER = 1e15  # of numbers that count as text


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

    parts: tuple[str | RowPicture, ...]
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
    def pictures(self) -> tuple[RowPicture, ...]:
        """Its images in order."""
        return tuple(part for part in self.parts if isinstance(part, RowPicture))

    @property
    def key(self) -> str:
        """The row's id, or a digest of its content: the same wherever the row stands in its file."""
        if self.id is not None and len(self.id) <= MAX_ID_LENGTH:
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


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        values: field name -> value.
        source: `file:row`.
        root: the local folder that image files may not leave; None for rows from the Hub.
        language: of the benchmark, where the row does not say.
    """

    values: dict[str, Any]
    source: str
    root: Path | None = None
    language: str = "en"

    @property
    def file(self) -> PurePosixPath:
        """The file it comes from."""
        return PurePosixPath(self.source.rpartition(":")[0])

    def bad(self, reason: str, detail: str) -> BadRow:
        """The error that this row is."""
        return BadRow(self.source, reason, detail)

    def has(self, *names: str) -> bool:
        """Whether one of the fields holds anything."""
        return any(self.values.get(name) not in (None, "", [], {}) for name in names)

    def get(self, *names: str) -> Any:
        """The value of the first of `names` that the row has.

        Raises:
            BadRow: it has none of them.
        """
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        shown = ", ".join(str(name)[:40] for name in list(self.values)[:MAX_NAMES_SHOWN])
        raise BadRow(self.source, "missing field", f"needs {' or '.join(names)}; the row has {shown or 'nothing'}")

    def text(self, *names: str) -> str:
        """A field's text, which may be blank; numbers count as text."""
        return self._as_text(self.get(*names), names[0])

    def text_or_none(self, *names: str) -> str | None:
        """The same, None where there is none."""
        return self.text(*names) if self.has(*names) else None

    def texts(self, *names: str) -> tuple[str, ...]:
        """A field that holds a list of texts."""
        value = self.get(*names)
        if isinstance(value, (str, dict)) or not hasattr(value, "__iter__"):
            raise BadRow(self.source, "bad field", f"{names[0]} should be a list of texts, found {type(value).__name__}")
        return tuple(self._as_text(item, names[0]) for item in value)

    def picture(self, *names: str, within: tuple[str, ...] = ()) -> RowPicture:
        """A field's image. A file may lie beside the row's file, in `images/` there, or likewise in the source's folder or its
        subfolders `within`."""
        folders: tuple[Path, ...] = ()
        if self.root is not None:
            beside = Path(self.file).parent
            folders = (self.root, *(self.root / name for name in within), self.root / "images", beside, beside / "images")
        return read_picture(self.get(*names), self.source, folders)

    def ask(
        self,
        *parts: str | RowPicture,
        id: Any = None,
        follow_ups: tuple[str, ...] = (),
        category: str | None = None,
        language: str | None = None,
    ) -> Question:
        """The row's question, blank pieces left out.

        Raises:
            BadRow: there is no word in it, or one of the turns is blank.
        """
        kept = tuple(part for part in parts if not isinstance(part, str) or part.strip())
        if not any(isinstance(part, str) for part in kept):
            raise BadRow(self.source, "empty question", "the question is blank")
        if not all(turn.strip() for turn in follow_ups):
            raise BadRow(self.source, "empty question", "a later turn is blank")
        name = self._as_text(id, "id") if isinstance(id, (str, int)) else None
        return Question(kept, self.source, language or self.language, name or None, follow_ups, category or None)

    def _as_text(self, value: Any, name: str) -> str:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MAX_NUMBER:
            return str(int(value) if value == int(value) else value)
        if not isinstance(value, str):
            raise BadRow(self.source, "bad field", f"{name} should be text, found {type(value).__name__}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadRow(self.source, "bad text", "a lone surrogate is no Unicode text")
        return value


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A benchmark.

    Attributes:
        name: as on the command line and in tables.
        hub: Hub dataset, `owner/name` or `owner/name@revision`; None where there is none.
        split: which of its splits; a local folder is searched for files with this word in their names.
        config: of a Hub dataset with several.
        files: patterns of the Hub dataset's files, where config and split do not say enough.
        local: patterns of the files in a local folder; a folder in which none matches is read by `split`.
        tables: file name pattern -> the list to read, for JSON documents with several.
        schema: the fields that are read.
        question: what a row asks; None for a row that belongs to another benchmark.
        size: prompts in the whole split.
        count: prompts drawn from it; None for all.
        per_category: prompts drawn from each category; None for all.
        max_new_tokens: longest answer.
        languages: of the questions, ISO 639-1.
        modality: of nearly all questions.
        licence: as its page states it.
        citation: paper or page.
        obtain: what to do where there is no Hub dataset.
    """

    name: str
    schema: str
    question: Callable[[Row], Question | None]
    size: int
    max_new_tokens: int
    licence: str
    citation: str
    hub: str | None = None
    split: str = "test"
    config: str | None = None
    files: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None
    per_category: int | None = None
    languages: tuple[str, ...] = ("en",)
    modality: Modality = "text"
    obtain: str = ""

    @property
    def drawn(self) -> str:
        """How many prompts, in words."""
        if self.per_category:
            return f"{self.per_category} per category of {self.size:,}"
        return f"{self.count} of {self.size:,}" if self.count else f"{self.size:,}"
