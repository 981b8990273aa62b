"""What the table of benchmarks says about each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vlm_eagle.data.benchmark import Modality

from .question import Question
from .row import Row


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
