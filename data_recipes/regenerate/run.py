"""A run from its options to its files: read, ask, keep, write."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from data_recipes.regenerate.asks import Asks
from data_recipes.regenerate.by_server import ByServer
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Dialogue
from data_recipes.regenerate.finish import Counts, write_data
from data_recipes.regenerate.in_process import InProcess
from data_recipes.regenerate.journal import Journal
from data_recipes.regenerate.progress import RegenerateProgress
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, sha256, write_json


class Answerer(Protocol):
    """Who writes answers.

    Attributes:
        made_by: the target's name and whatever else tells it from another, as JSON.
    """

    made_by: dict[str, Any]

    def answers(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """Every dialogue once, when it is over; those that were over before come back as they are."""

    def summary(self) -> dict[str, Any]:
        """What else is worth reporting after the run."""


def regenerate(config: RegenerateConfig) -> int:
    """Runs the command; 1 if some conversations failed in a way that may pass."""
    console, out = Console(markup=False), Path(config.out)  # servers and paths may say "[/INST]"
    if any(Path(file).resolve().parent == out.resolve() for file in config.data):
        raise UserError(f"The data lies in {out}, where this run writes files of the same names. Give another --out.")
    asks = Asks(config)
    answerer = ByServer(config, lambda line: console.print(line, style="yellow")) if config.server else InProcess(config)
    settings = {**answerer.made_by, **config.answering(), "data": sha256(map(Path, config.data))}
    with Journal(out / "journal.jsonl", settings) as journal:
        this_run = _ask(config, asks, answerer, journal, console)
        made_by = {**answerer.made_by, **config.answering()}
        counts = write_data(out, asks, journal, made_by)
    report = {"run": describe_run(config=asdict(config)), "made_by": settings, "counts": asdict(counts), "this_run": this_run}
    write_json(out / "regenerate.json", report)
    _show(console, counts, this_run, out)
    return int(counts.may_pass > 0)


def _ask(config: RegenerateConfig, asks: Asks, answerer: Answerer, journal: Journal, console: Console) -> dict[str, Any]:
    """Everything that is not in the journal; returns what this process did."""
    todo = [key for key in asks if not journal.is_done(key, config.retry_failed)]
    done = len(asks) - len(todo)
    if done:
        console.print(f"{done:,} of {len(asks):,} are in {journal.file} already.")
    if journal.unreadable:
        console.print(f"{journal.unreadable} damaged lines of it are asked again.", style="yellow")
    with RegenerateProgress(console, len(asks), done) as progress:
        try:
            for dialogue in answerer.answers(asks[key] for key in todo):
                journal.append(dialogue.outcome)
                progress.finished(dialogue.outcome)
        except KeyboardInterrupt:
            kept = done + journal.written  # the bar may not know of the last one yet
            console.print(f"{kept:,} of {len(asks):,} are kept in {journal.file}; the same command continues.")
            raise
    if progress.conversations != len(todo):  # whoever answers must bring all back
        raise RuntimeError(f"{len(todo)} conversations were given out, {progress.conversations} came back")
    seconds = progress.seconds
    return {
        "conversations": progress.conversations,
        "tokens": progress.tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(progress.tokens / max(seconds, 1e-9), 1),
        **answerer.summary(),
    }


def _show(console: Console, counts: Counts, this_run: dict[str, Any], out: Path) -> None:
    table = Table("", "conversations", title=f"{out / 'train.jsonl'}")
    table.columns[1].justify = "right"
    table.add_row("asked for", f"{counts.asked:,}")
    table.add_row("written", f"{counts.written:,}")
    for reason, count in counts.ended_early.items():
        table.add_row(f"  of them without their last turns: {reason}", f"{count:,}")
    for reason, count in counts.failed.items():
        table.add_row(f"failed: {reason}", f"{count:,}")
    console.print(table)
    line = f"{counts.turns:,} answers, {counts.tokens:,} tokens"
    if this_run["conversations"]:
        line += f"; this run: {this_run['tokens_per_second']:,.0f} tokens/s"
    if this_run.get("acceptance_length"):
        line += f", acceptance length {this_run['acceptance_length']:.2f}"
    console.print(line)
    if counts.may_pass:
        console.print(f"{counts.may_pass:,} failures may pass: the same command asks again.", style="yellow")
