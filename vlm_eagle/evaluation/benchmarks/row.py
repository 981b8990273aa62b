"""A row of a benchmark's file, asked for by field name; whatever is not as it should be is a BadRow that says so."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlm_eagle.data.conversation import BadRow

from .pictures import Picture, read_picture
from .question import Question

_SHOWN = 12  # field names that an error lists
_LARGEST = 1e15  # of numbers that count as text


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
        shown = ", ".join(str(name)[:40] for name in list(self.values)[:_SHOWN])
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

    def picture(self, *names: str, within: tuple[str, ...] = ()) -> Picture:
        """A field's image. A file may lie beside the row's file, in `images/` there, or likewise in the source's folder or its
        subfolders `within`."""
        folders: tuple[Path, ...] = ()
        if self.root is not None:
            beside = Path(self.file).parent
            folders = (self.root, *(self.root / name for name in within), self.root / "images", beside, beside / "images")
        return read_picture(self.get(*names), self.source, folders)

    def ask(
        self,
        *parts: str | Picture,
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
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST:
            return str(int(value) if value == int(value) else value)
        if not isinstance(value, str):
            raise BadRow(self.source, "bad field", f"{name} should be text, found {type(value).__name__}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadRow(self.source, "bad text", "a lone surrogate is no Unicode text")
        return value
