"""First pass: rows are read, converted, drawn, and laid in the spool. What cannot be used is written down with its reason."""

import json
from collections import Counter
from collections.abc import Callable
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
from data_recipes.spool import Spool
from data_recipes.stream import data_files, is_hub_id
from vlm_eagle.data.conversation import BadRow

NOT_DRAWN = "not drawn"
RESERVE = 0.1  # drawn beyond the total, to stand in for duplicates found later


@dataclass
class Tally:
    """What became of the rows of one part: read == kept + sum(dropped)."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, rejected: TextIO, source: str, detail: str) -> None:
        """Counts a row that is not used and writes down why."""
        self.dropped[reason] += 1
        rejected.write(json.dumps({"source": source, "reason": reason, "detail": detail}, ensure_ascii=True) + "\n")


def gather(
    part: Part, number: int, spool: Spool, rejected: TextIO, folder: Path, images: list[Path], limit: int | None, seed: int,
    step: Callable[[int], None] = lambda read: None,
) -> Tally:  # fmt: skip
    """Reads one part of a plan into the spool.

    Args:
        part: what to read.
        number: of the part in its plan.
        spool: takes the conversations.
        rejected: takes a line per row that cannot be used.
        folder: the output folder; pictures go to `images/` in it.
        images: folders to look for pictures in, before the source's own.
        limit: rows to read; None for all.
        seed: of the draw.
        step: is called with the number of rows read, after each.

    Raises:
        UserError: the source cannot be read.
    """
    tally = Tally()
    draw = Draw(None if part.total is None else part.total + int(part.total * RESERVE) + 10)
    shelf = PictureShelf(folder / "images", [*images, *_own_roots(part.source)], archives_of(part))
    rows = part.recipe.stream(part.source, part.recipe.split, files=part.files)
    try:
        for source, row in islice(rows, limit):
            tally.read += 1
            try:
                _take(row, source, part, number, draw, shelf, spool, folder, seed, tally)
            except BadRow as error:
                tally.drop(error.reason, rejected, source, str(error).removeprefix(f"{source}: {error.reason}: "))
            step(tally.read)
    finally:
        shelf.close()
    return tally


def archives_of(part: Part) -> list[str]:
    """The zip files that may hold a part's pictures."""
    local = Path(part.source)
    if part.recipe.modality == "text":
        return []
    if local.exists():
        folder = local if local.is_dir() else local.parent
        return sorted(map(str, folder.rglob("*.zip")))
    return (
        data_files(part.source, part.recipe.split, files=part.recipe.archives)
        if part.recipe.archives and is_hub_id(part.source)
        else []
    )


def _own_roots(source: str) -> list[Path]:
    local = Path(source)
    return [local if local.is_dir() else local.parent] if local.exists() else []


def _take(
    row: object, source: str, part: Part, number: int, draw: Draw, shelf: PictureShelf, spool: Spool, folder: Path, seed: int,
    tally: Tally,
) -> None:  # fmt: skip
    if isinstance(row, BadRow):
        raise row
    turns, changes = tidy(part.recipe.read(row, source), source)
    if part.languages and (language := language_of(answers_of(turns))) not in part.languages:
        raise BadRow(source, "other language", f"{language}, wanted {' or '.join(part.languages)}")
    key = key_of(draw_digest(turns), seed)
    if not draw.would_keep(key):
        tally.dropped[NOT_DRAWN] += 1
        return
    converted = convert(turns, source, part.recipe.name, folder, shelf)
    converted.row["source"] = source
    ordinal = spool.add(converted, number, key)
    tally.changed.update(changes)
    if (gone := draw.keep(key, ordinal)) is not None:
        spool.let_go(gone)
        tally.dropped[NOT_DRAWN] += 1


def answers_of(turns: list[Turn]) -> str:
    """The assistant's texts."""
    return "\n".join(part for turn in turns if turn.role == "assistant" for part in turn.parts if isinstance(part, str))
