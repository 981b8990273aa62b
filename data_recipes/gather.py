"""First pass: rows are read, converted, drawn, and buffered. What cannot be used is recorded with its reason."""

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from data_recipes.choose import BottomK, draw_key
from data_recipes.conversion import convert, draw_digest
from data_recipes.languages import language_of
from data_recipes.mix import MixPart
from data_recipes.pictures import PictureShelf
from data_recipes.readers import MessageDict, tidy
from data_recipes.row_buffer import RowBuffer
from data_recipes.stream import Row, data_files, is_hub_id
from vlm_eagle.data.conversation import BadRow

NOT_DRAWN = "not drawn"
RESERVE = 0.25  # drawn beyond the total, to stand in for duplicates found later


@dataclass
class Tally:
    """What became of the rows of one part: read == kept + sum(dropped).

    `changed` counts what was tidied in all readable rows, drawn or not, so that it does not depend on their order.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, rejected: TextIO, source: str, detail: str) -> None:
        """Counts a row that is not used and writes down why."""
        self.dropped[reason] += 1
        rejected.write(json.dumps({"source": source, "reason": reason, "detail": detail}, ensure_ascii=True) + "\n")


class Gatherer:
    """Takes the rows of part `number` of a mix into `buffer`, and their pictures into `folder`/images.

    `images` are folders to look for pictures in before the source's own; `seed` is that of the draw.
    """

    def __init__(self, part: MixPart, number: int, buffer: RowBuffer, folder: Path, images: list[str], seed: int):
        self.part, self.number, self.buffer, self.folder, self.seed = part, number, buffer, folder, seed
        self.shelf = _shelf(part, folder, images)
        self.draw = BottomK(None if part.total is None else part.total + int(part.total * RESERVE) + 10)
        self.tally = Tally()

    def gather(self, rows: Iterable[Row], rejected: TextIO) -> Tally:
        """Reads `rows`; `rejected` gets a line for each that cannot be used.

        Raises:
            UserError: the source cannot be read.
        """
        with closing(self.shelf):
            for source, row in rows:
                self.tally.read += 1
                try:
                    self._take(row, source)
                except BadRow as error:
                    self.tally.drop(error.reason, rejected, source, error.detail)
        return self.tally

    def _take(self, row: Any, source: str) -> None:
        """Buffers a row, or counts it as not drawn; raises BadRow if it cannot be used."""
        if isinstance(row, BadRow):
            raise row
        messages, changes = tidy(self.part.recipe.read(row, source), source)
        self.tally.changed.update(changes)
        wanted = self.part.languages
        if wanted and (language := language_of(_answers(messages))) not in wanted:
            raise BadRow(source, "other language", f"{language}, wanted {' or '.join(wanted)}")
        key = draw_key(draw_digest(messages), self.seed)
        if self.draw.holds(key):  # else copies of one row could fill the draw
            raise BadRow(source, "duplicate", "repeats a row that is drawn already")
        if not self.draw.would_keep(key):
            self.tally.dropped[NOT_DRAWN] += 1
            return
        converted = convert(messages, source, self.part.recipe.name, self.folder, self.shelf)
        replaced = self.draw.keep(key, self.buffer.add(converted, self.number, key))
        if replaced is not None:
            self.buffer.discard(replaced)
            self.tally.dropped[NOT_DRAWN] += 1


def _answers(messages: list[MessageDict]) -> str:
    answers = [message for message in messages if message["role"] == "assistant"]
    return "\n".join(part["text"] for message in answers for part in message["content"] if part["type"] == "text")


def _shelf(part: MixPart, folder: Path, images: list[str]) -> PictureShelf:
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
