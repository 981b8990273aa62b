"""Makes the data of a plan: gather, measure, choose, write. The output folder appears whole or not at all."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from data_recipes.choose import choose
from data_recipes.gather import NOT_DRAWN, gather
from data_recipes.measure import measure
from data_recipes.plan import Plan
from data_recipes.row_buffer import RowBuffer
from data_recipes.settings import Settings
from data_recipes.stream import BREAKS_OFF
from data_recipes.summary import summarize, table
from data_recipes.write import drop_unused_pictures, settle, write_rows
from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder
from vlm_eagle.packages import require
from vlm_eagle.provenance import write_json


def build(plan: Plan, out: Path, settings: Settings | None = None, console: Console | None = None) -> dict:
    """Writes train.jsonl, held_out.jsonl, rejected.jsonl, images/ and recipe.json into `out`; returns what recipe.json holds.

    Raises:
        UserError: `out` exists, a source cannot be read, nothing of it can be used, or a package is missing.
    """
    require("datasketch", "py3langid", "ijson", user="Making data", extra="recipes")
    settings, console = settings or Settings(), console or Console(quiet=True)
    with new_folder(out) as folder, _progress(console) as progress:
        scratch = folder / ".rows.jsonl"
        buffer = RowBuffer(scratch)
        with (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected:
            tallies = []
            for i, part in enumerate(plan.parts):
                step = _step(progress, f"read {part.recipe.name}", settings.limit)
                tallies.append(gather(part, i, buffer, rejected, folder, settings, step))
                step(tallies[-1].read, is_end=True)
            buffer.close()
            facts = measure(scratch, buffer.offsets, buffer.alive, settings.workers, _step(progress, "measure", len(buffer)))
            totals = [part.total for part in plan.parts]
            choice = choose(buffer, facts.signature, totals, settings.held_out, settings.similarity)
            settle(buffer, choice, tallies, rejected)
        if not choice.kept.any():
            raise UserError(_nothing(plan, folder / "rejected.jsonl"))
        write_rows(folder, buffer, facts, choice, _step(progress, "write", int(choice.kept.sum())))
        pictures = drop_unused_pictures(folder, buffer, choice)
        scratch.unlink()
        summary = summarize(plan, tallies, facts, choice, buffer.parts, pictures, asdict(settings))
        write_json(folder / "recipe.json", summary)
    console.print(table(summary))
    _warn(summary, console)
    return summary


def _warn(summary: dict, console: Console) -> None:
    for part in summary["parts"]:
        if broken := part["dropped"].get(BREAKS_OFF):
            console.print(f"{part['recipe']}: {broken} files break off (rejected.jsonl); what follows is lost.", style="red")
        if part["missing"]:
            why = "more duplicates than the draw's reserve" if NOT_DRAWN in part["dropped"] else "its source has no more"
            console.print(f"{part['recipe']}: {part['missing']:,} of {part['wanted']:,} are missing: {why}.", style="yellow")
    if not summary["counts"]["held_out"] and summary["settings"]["held_out"]:
        console.print("Nothing is held out: so few conversations need a larger --held-out.", style="yellow")


def _nothing(plan: Plan, rejected: Path) -> str:
    with rejected.open(encoding="utf-8") as lines:
        first = next(lines, None)
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
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _step(progress: Progress | None, name: str, total: int | None) -> Callable[..., None]:
    """Moves a bar. How long a source is, only its end tells."""
    if progress is None:
        return lambda done, is_end=False: None
    task = progress.add_task(name, total=total)

    def step(done: int, is_end: bool = False) -> None:
        if is_end or done % 64 == 0 or done == total:
            progress.update(task, completed=done, total=done if is_end else total)

    return step
