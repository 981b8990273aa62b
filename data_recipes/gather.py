"""First pass: rows are read, converted, drawn, and laid in the spool. What cannot be used is written down with its reason."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

from data_recipes.conversion import convert, draw_digest
from data_recipes.draw import Draw, key_of
from data_recipes.languages import language_of
from data_recipes.pictures import PictureShelf
from data_recipes.plan import Part
from data_recipes.readers.turns import Turn, tidy
from data_recipes.row_buffer import RowBuffer
from data_recipes.settings import Settings
from data_recipes.stream import data_files, is_hub_id
from vlm_eagle.data.conversation import BadRow

NOT_DRAWN = "not drawn"
RESERVE = 0.25  # drawn beyond the total, to stand in for duplicates found later


@dataclass
class Tally:
    """What became of the rows of one part: read == kept + sum(dropped). `changed` is what was tidied in the rows that could be
    read, drawn or not, so that it does not depend on their order."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, rejected: TextIO, source: str, detail: str) -> None:
        """Counts a row that is not used and writes down why."""
        self.dropped[reason] += 1
        rejected.write(json.dumps({"source": source, "reason": reason, "detail": detail}, ensure_ascii=True) + "\n")


def gather(
    part: Part, number: int, buffer: RowBuffer, rejected: TextIO, folder: Path, settings: Settings, step: Callable[[int], None]
) -> Tally:
    """Reads one part of a plan into the spool.

    Args:
        part: what to read.
        number: of the part in its plan.
        buffer: takes the conversations.
        rejected: takes a line per row that cannot be used.
        folder: the output folder; pictures go to `images/` in it.
        settings: of the run.
        step: is called with the number of rows read, after each.

    Raises:
        UserError: the source cannot be read.
    """
    tally = Tally()
    with closing(_shelf(part, folder, settings.images)) as shelf:
        intake = _Intake(part, number, buffer, folder, shelf, settings.seed, tally)
        for source, row in islice(part.recipe.stream(part.source, part.recipe.split, files=part.files), settings.limit):
            tally.read += 1
            try:
                intake.take(row, source)
            except BadRow as error:
                tally.drop(error.reason, rejected, source, str(error).removeprefix(f"{source}: {error.reason}: "))
            step(tally.read)
    return tally


class _Intake:
    """One part's way into the spool."""

    def __init__(self, part: Part, number: int, buffer: RowBuffer, folder: Path, shelf: PictureShelf, seed: int, tally: Tally):
        self.part, self.number, self.buffer, self.folder, self.shelf = part, number, buffer, folder, shelf
        self.seed, self.tally = seed, tally
        self.draw = Draw(None if part.total is None else part.total + int(part.total * RESERVE) + 10)

    def take(self, row: object, source: str) -> None:
        """Lays a row in the spool, or counts it as not drawn.

        Raises:
            BadRow: it cannot be used.
        """
        if isinstance(row, BadRow):
            raise row
        turns, changes = tidy(self.part.recipe.read(row, source), source)
        self.tally.changed.update(changes)
        self._check_language(turns, source)
        key = key_of(draw_digest(turns), self.seed)
        if self.draw.holds(key):  # else copies of one row could fill the draw
            raise BadRow(source, "duplicate", "repeats a row that is drawn already")
        if not self.draw.would_keep(key):
            self.tally.dropped[NOT_DRAWN] += 1
            return
        converted = convert(turns, source, self.part.recipe.name, self.folder, self.shelf)
        converted.row["source"] = source
        if (gone := self.draw.keep(key, self.buffer.add(converted, self.number, key))) is not None:
            self.buffer.let_go(gone)
            self.tally.dropped[NOT_DRAWN] += 1

    def _check_language(self, turns: list[Turn], source: str) -> None:
        wanted = self.part.languages
        if wanted and (language := language_of(_answers(turns))) not in wanted:
            raise BadRow(source, "other language", f"{language}, wanted {' or '.join(wanted)}")


def _answers(turns: list[Turn]) -> str:
    return "\n".join(part for turn in turns if turn.role == "assistant" for part in turn.parts if isinstance(part, str))


def _shelf(part: Part, folder: Path, images: list[str]) -> PictureShelf:
    """Where a part's pictures are looked for: the user's folders, then the source's own folder and its zip files."""
    local, recipe = Path(part.source), part.recipe
    own, archives = [], []
    if local.exists():
        own = [local if local.is_dir() else local.parent]
        if recipe.modality == "pictures":
            archives = sorted(map(str, local.rglob("*.zip") if local.is_dir() else local.parent.glob("*.zip")))
    elif recipe.archives and is_hub_id(part.source):
        archives = data_files(part.source, recipe.split, files=recipe.archives)
    return PictureShelf(folder / "images", [*map(Path, images), *own], archives)
