"""The tasks of an evaluation carried out: shared among processes, continued after an interruption, done once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.result_schema import AcceptanceResult, read_results
from vlm_eagle.evaluation.scores.journal import EvaluationJournal, digest
from vlm_eagle.evaluation.scores.scoring import Column, PromptOutcome, Task, work


def identity(plan: Sequence[tuple[Column, Any]]) -> str:
    """Of everything that the results depend on."""
    return digest(
        [
            [column.head, [[b.name, b.skipped, [[task.prompt.id, task.key] for task in tasks]] for b, _, tasks in parts]]
            for column, parts in plan
        ]
    )


def already(file: Path, scored: str) -> list[AcceptanceResult] | None:
    """The settings in `file` if they are of exactly this."""
    try:
        results = read_results(file)
    except UserError:
        return None
    return results.settings if results.scored == scored else None


def all_outcomes(tasks: Sequence[Task], out: Path, state: PartialState, console: Console) -> dict[str, PromptOutcome]:
    """This process's share of the tasks, and what the others made of theirs."""
    own = tasks[state.process_index :: state.num_processes]
    journal = EvaluationJournal(out, state.process_index)
    known = sum(task.key in journal.found for task in tasks)
    if known:
        console.print(f"Going on: {known} of {len(tasks)} prompts were finished before.")
    state.wait_for_everyone()  # all have read the journals before any writes to its own
    with _progress(console) as progress:
        bar, written = progress.add_task("prompts", total=len(own), rate=""), 0

        def done(tokens: int) -> None:
            nonlocal written
            written += tokens
            seconds = progress.tasks[0].elapsed or 1.0
            progress.update(bar, advance=1, rate=f"{written / seconds:.0f} tok/s")

        found = work(own, journal, done)
    return {key: outcome for part in gather_object([found]) for key, outcome in part.items()}


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
