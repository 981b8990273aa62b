"""A run from its options to its files, and a conversation's way through it:

row of the data -> Dialogue (dataset.py) -> answered turn by turn (by_server.py or in_process.py)
                -> line of journal.jsonl (journal.py) -> row of train.jsonl or failed.jsonl (here)
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from data_recipes.regenerate.by_server import ByServer
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dataset import DialogueDataset
from data_recipes.regenerate.dialogue import Dialogue, DialogueResult, with_answers
from data_recipes.regenerate.in_process import InProcess
from data_recipes.regenerate.journal import AnswerJournal
from data_recipes.regenerate.media import place_media
from data_recipes.regenerate.progress import RegenerateProgress
from vlm_eagle.atomic import atomic_path
from vlm_eagle.data.conversation_rows import to_row
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, sha256, write_json


class AnswerSource(Protocol):
    """Who writes answers.

    Attributes:
        made_by: the target's name and whatever else tells it from another, as JSON.
    """

    made_by: dict[str, Any]

    def answers(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """Every dialogue once, when it is over; those that were over before come back as they are."""
        ...

    def summary(self) -> dict[str, Any]:
        """What else is worth reporting after the run."""
        ...


@dataclass
class Counts:
    """What became of all that was to be asked: asked == written + failed.

    Attributes:
        asked: samples of rows.
        written: rows of train.jsonl.
        failed: reason -> rows of failed.jsonl.
        ended_early: reason -> written rows that lack their last turns.
        turns: answers in written rows.
        tokens: of these answers, end tokens included where they were counted.
        cut: of these answers, how many did not end.
        may_pass: transient failures, which the next run asks again.
    """

    asked: int = 0
    written: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    ended_early: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    tokens: int = 0
    cut: int = 0
    may_pass: int = 0

    def add(self, result: DialogueResult) -> None:
        """Counts one more conversation."""
        self.asked += 1
        if result.reason:
            reasons = self.ended_early if result.is_kept else self.failed
            reasons[result.reason] = reasons.get(result.reason, 0) + 1
        if not result.is_kept:
            self.may_pass += result.again
            return
        self.written += 1
        self.turns += len(result.replies)
        self.tokens += sum(reply.count for reply in result.replies)
        self.cut += sum(reply.cut for reply in result.replies)


def regenerate(config: RegenerateConfig) -> int:
    """Runs the command; 1 if some conversations failed in a way that may pass."""
    console, out = Console(markup=False), Path(config.out)  # servers and paths may say "[/INST]"
    if any(Path(file).resolve().parent == out.resolve() for file in config.data):
        raise UserError(f"The data is in {out}, where this run writes files of the same names. Give another --out.")
    dataset = DialogueDataset(config)
    source = ByServer(config, lambda line: console.print(line, style="yellow")) if config.server else InProcess(config)
    made_by = {**source.made_by, **config.answering()}
    settings = {**made_by, "data": sha256(map(Path, config.data))}
    with AnswerJournal(out / "journal.jsonl", settings) as journal:
        this_run = _answer(config, dataset, source, journal, console)
        counts = _write_data(out, dataset, journal, made_by)
    report = {"run": describe_run(config=asdict(config)), "made_by": settings, "counts": asdict(counts), "this_run": this_run}
    write_json(out / "regenerate.json", report)
    _show(console, counts, this_run, out)
    return int(counts.may_pass > 0)


def _answer(
    config: RegenerateConfig, dataset: DialogueDataset, source: AnswerSource, journal: AnswerJournal, console: Console
) -> dict[str, Any]:
    """Everything that is not in the journal; returns what this process did."""
    todo = [key for key in dataset if not journal.is_done(key, config.retry_failed)]
    done = len(dataset) - len(todo)
    if done:
        console.print(f"{done:,} of {len(dataset):,} are in {journal.file} already.")
    if journal.unreadable:
        console.print(f"{journal.unreadable} damaged lines of it are asked again.", style="yellow")
    with RegenerateProgress(console, len(dataset), done) as progress:
        try:
            for dialogue in source.answers(dataset[key] for key in todo):
                journal.append(dialogue.result)
                progress.finished(dialogue.result)
        except KeyboardInterrupt:
            kept = done + journal.written  # the bar may not know of the last one yet
            console.print(f"{kept:,} of {len(dataset):,} are kept in {journal.file}; the same command continues.")
            raise
    assert progress.conversations == len(todo), f"{len(todo)} conversations asked, {progress.conversations} came back"
    return {
        "conversations": progress.conversations,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 3),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
        **source.summary(),
    }


def _write_data(folder: Path, dataset: DialogueDataset, journal: AnswerJournal, made_by: dict[str, Any]) -> Counts:
    """train.jsonl in the order of the data, and failed.jsonl with reasons; each whole or not at all."""
    counts = Counts()
    # a lone surrogate in an id becomes the JSON escape it came from
    text: dict[str, Any] = {"mode": "w", "encoding": "utf-8", "errors": "backslashreplace"}
    with (
        atomic_path(folder / "train.jsonl") as new_train, atomic_path(folder / "failed.jsonl") as new_failed,
        new_train.open(**text) as train, new_failed.open(**text) as failed,
    ):  # fmt: skip
        for key in dataset:
            result = journal[key]
            assert result is not None, key
            counts.add(result)
            row = _train_row(dataset, result, folder, made_by) if result.is_kept else _failed_row(dataset, result)
            (train if result.is_kept else failed).write(json.dumps(row, ensure_ascii=False) + "\n")
    return counts


def _train_row(dataset: DialogueDataset, result: DialogueResult, folder: Path, made_by: dict[str, Any]) -> dict[str, Any]:
    """A conversation with the new answers; how they were made is under "regenerated"."""
    dialogue = dataset[result.key]
    conversation = with_answers(dialogue.asked, [reply.text for reply in result.replies], len(result.replies))
    row = to_row(place_media(conversation, folder), folder.resolve())
    if dataset.config.samples > 1:
        row["id"] = f"{row['id']}#{result.key[1] + 1}"
    how: dict[str, Any] = {**made_by, "seed": dialogue.seed} if dataset.config.temperature > 0 else dict(made_by)
    if dialogue.is_long:
        how["long_answer"] = True
    if any(reply.cut for reply in result.replies):
        how["truncated_answers"] = [i for i, reply in enumerate(result.replies) if reply.cut]
    if result.reason:
        how["ended_early"] = result.reason
    return {**row, **dataset.extras(result.key), "regenerated": how}


def _failed_row(dataset: DialogueDataset, result: DialogueResult) -> dict[str, Any]:
    row = {"id": result.id, "source": dataset.source(result.key), "reason": result.reason, "detail": result.detail}
    return {**row, "sample": result.key[1] + 1, "asked_again_by_the_next_run": result.again}


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
