"""Builds the data of a mix: gather, measure, choose, write. The output folder appears whole or not at all."""

import json
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from data_recipes.choose import choose
from data_recipes.gather import NOT_DRAWN, Gatherer
from data_recipes.measure import FACTS, measure
from data_recipes.mix import Mix
from data_recipes.row_buffer import RowBuffer
from data_recipes.stream import BREAKS_OFF
from data_recipes.summary import summarize, table
from data_recipes.write import count_and_record, delete_unused_pictures, write_rows
from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder
from vlm_eagle.packages import require
from vlm_eagle.provenance import write_json


@dataclass(kw_only=True)
class BuildOptions:
    """How a mix is built, whatever the mix.

    Attributes:
        images: folders to look for pictures in, before the source's own.
        limit: rows to read of each source, from its beginning, for a quick look.
        held_out: share of conversations that go to held_out.jsonl; the same ones whatever the mix, its order and its seed.
        similarity: from which similarity on two conversations count as near duplicates; 2 drops identical ones only.
        seed: of the draw and of the order.
        workers: processes.
    """

    images: list[str] = field(default_factory=list)
    limit: int | None = None
    held_out: float = 0.01
    similarity: float = 0.8
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"held_out is a share of the conversations, from 0 to below 1; found {self.held_out}.")
        if not self.similarity > 0.5:
            raise UserError(f"similarity must be above 0.5, found {self.similarity}: candidates below are not found.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be at least 1, found {self.limit}.")
        if not -(2**63) <= self.seed < 2**63:
            raise UserError(f"seed is a number of 64 bits, found {self.seed}.")


def build(mix: Mix, out: Path, options: BuildOptions | None = None, console: Console | None = None) -> dict[str, Any]:
    """Writes train.jsonl, held_out.jsonl, rejected.jsonl, images/ and recipe.json into `out`; returns what recipe.json holds.

    Raises:
        UserError: `out` exists, a source or folder cannot be read, no row can be used, or a package is missing.
    """
    require("datasketch", "py3langid", "ijson", user="Making data", extra="recipes")
    options, console = options or BuildOptions(), console or Console(quiet=True)
    for folder in options.images:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder of pictures.")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )  # fmt: skip
    with new_folder(out) as folder, Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        buffer = RowBuffer(folder / ".rows.jsonl")
        with (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected:
            tallies = []
            for number, part in enumerate(mix.parts):
                gatherer = Gatherer(part, number, buffer, folder, options.images, options.seed)
                bar = progress.add_task(f"read {part.recipe.name}", total=options.limit)
                rows = islice(part.recipe.stream(part.source, part.files), options.limit)
                tallies.append(gatherer.gather(progress.track(rows, total=options.limit, task_id=bar), rejected))
                progress.update(bar, total=tallies[-1].read)
            buffer.flush()
            facts = _measured(buffer, options.workers, progress)
            totals = [part.total for part in mix.parts]
            choice = choose(buffer.columns(), facts["signature"], totals, options.held_out, options.similarity)
            count_and_record(buffer, choice, tallies, rejected)
        if not choice.kept.any():
            raise UserError(_nothing(mix, folder / "rejected.jsonl"))
        write_rows(folder, buffer, facts["language"], choice, progress)
        pictures = delete_unused_pictures(folder, buffer, choice)
        summary = summarize(mix, tallies, facts, choice, buffer.columns()["part"], pictures, asdict(options))
        buffer.close()
        write_json(folder / "recipe.json", summary)
    console.print(table(summary))
    _warn(summary, console)
    return summary


def _measured(buffer: RowBuffer, workers: int, progress: Progress) -> np.ndarray:
    """(N,) of `FACTS`."""
    rows, found = buffer.columns(), [np.empty(0, FACTS)]
    bar = progress.add_task("measure", total=len(rows))
    for facts in measure(buffer.file, rows["offset"], rows["alive"], workers):
        found.append(facts)
        progress.advance(bar, len(facts))
    return np.concatenate(found)


def _warn(summary: dict[str, Any], console: Console) -> None:
    for part in summary["parts"]:
        if broken := part["dropped"].get(BREAKS_OFF):
            console.print(f"{part['recipe']}: {broken} files break off (rejected.jsonl); what follows is lost.", style="red")
        if part["missing"]:
            why = "more duplicates than the draw's reserve" if NOT_DRAWN in part["dropped"] else "its source has no more"
            console.print(f"{part['recipe']}: {part['missing']:,} of {part['wanted']:,} are missing: {why}.", style="yellow")
    if not summary["counts"]["held_out"] and summary["settings"]["held_out"]:
        console.print("Nothing is held out: with so few conversations, give a larger --held-out.", style="yellow")


def _nothing(mix: Mix, rejected: Path) -> str:
    with rejected.open(encoding="utf-8") as lines:
        first = next(lines, None)
    if first is None:
        return f"{mix.name}: the source has no rows."
    row = json.loads(first)
    why = f"{row['source']}: {row['reason']}: {row['detail']}"
    return f"{mix.name}: no row can be used. Is this the right recipe? The first row: {why}"
