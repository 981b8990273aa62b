"""Makes the data of a plan: gather, measure, choose, write. The output folder appears whole or not at all."""

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from data_recipes.choose import choose
from data_recipes.gather import gather
from data_recipes.measure import measure
from data_recipes.plan import Plan
from data_recipes.spool import Spool
from data_recipes.stream import BREAKS_OFF
from data_recipes.summary import summarize, table
from data_recipes.write import drop_unused_pictures, settle, write_rows
from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder
from vlm_eagle.provenance import write_json


@dataclass(frozen=True)
class Settings:
    """How a plan is carried out.

    Attributes:
        held_out: share of conversations to hold out.
        similarity: from which similarity on two conversations count as the same; above 1, only identical ones do.
        limit: rows to read of each source; None for all.
        seed: of the draw and the order.
        workers: processes that measure conversations.
        images: folders to look for pictures in, before the source's own.
    """

    held_out: float = 0.01
    similarity: float = 0.8
    limit: int | None = None
    seed: int = 0
    workers: int = 2
    images: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"held_out is a share of the conversations, from 0 to below 1; found {self.held_out}.")
        if not self.similarity > 0.5:
            raise UserError(f"similarity must be above 0.5, found {self.similarity}: candidates below are not found.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be at least 1, found {self.limit}.")
        for folder in self.images:
            if not Path(folder).is_dir():
                raise UserError(f"{folder}: no such folder of pictures.")


def build(plan: Plan, out: Path, settings: Settings = Settings(), console: Console | None = None) -> dict:
    """Writes train.jsonl, held_out.jsonl, rejected.jsonl, images/ and recipe.json into `out`; returns what recipe.json holds.

    Raises:
        UserError: `out` exists, a source cannot be read, or nothing of it can be used.
    """
    console = console or Console(quiet=True)
    with new_folder(out) as folder, _progress(console) as progress:
        scratch = folder / ".rows.jsonl"
        spool = Spool(scratch)
        with (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected:
            tallies = [
                gather(
                    part, i, spool, rejected, folder, list(map(Path, settings.images)), settings.limit, settings.seed,
                    _step(progress, f"read {part.recipe.name}", settings.limit),
                )
                for i, part in enumerate(plan.parts)
            ]  # fmt: skip
            spool.close()
            facts = measure(scratch, spool.offsets, settings.workers, _step(progress, "measure", len(spool)))
            totals = [part.total for part in plan.parts]
            choice = choose(spool, facts.signature, totals, settings.held_out, settings.similarity)
            settle(spool, choice, tallies, rejected)
        if not choice.kept.any():
            raise UserError(_nothing(plan, folder / "rejected.jsonl"))
        write_rows(folder, spool, facts, choice, _step(progress, "write", int(choice.kept.sum())))
        pictures = drop_unused_pictures(folder, spool, choice)
        scratch.unlink()
        summary = summarize(plan, tallies, facts, choice, spool.parts, pictures, asdict(settings))
        write_json(folder / "recipe.json", summary)
    console.print(table(summary))
    _warn(summary, console)
    return summary


def _warn(summary: dict, console: Console) -> None:
    for part in summary["parts"]:
        if broken := part["dropped"].get(BREAKS_OFF):
            console.print(
                f"{part['recipe']}: {broken} files break off, see rejected.jsonl. What follows in them is lost.", style="red"
            )
        if part["missing"]:
            text = f"{part['recipe']}: {part['missing']:,} of {part['wanted']:,} are missing, its source has no more."
            console.print(text, style="yellow")
    if not summary["counts"]["held_out"] and summary["settings"]["held_out"]:
        console.print("Nothing is held out: so few conversations need a larger --held-out.", style="yellow")


def _nothing(plan: Plan, rejected: Path) -> str:
    first = next(iter(rejected.read_text(encoding="utf-8").splitlines()), None)
    if first is None:
        return f"{plan.name}: the source has no rows."
    row = json.loads(first)
    why = f"{row['source']}: {row['reason']}: {row['detail']}"
    return f"{plan.name}: no row can be used. Is this the right recipe? The first row: {why}"


def _progress(console: Console):
    if not console.is_terminal:
        return nullcontext()
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _step(progress: Progress | None, name: str, total: int | None):
    if progress is None:
        return lambda done: None
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done) if done % 64 == 0 or done == total else None
