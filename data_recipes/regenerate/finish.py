"""From the journal to data: train.jsonl in the order of the rows, failed.jsonl with reasons, and all counts."""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.regenerate.asks import Asks
from data_recipes.regenerate.dialogue import Key, Outcome, with_answers
from data_recipes.regenerate.journal import Journal
from data_recipes.regenerate.media import Media
from vlm_eagle.data.conversation_rows import to_row


@dataclass
class Counts:
    """What became of all that was to be asked: asked = written + failed, always.

    Attributes:
        asked: samples of rows.
        written: rows of train.jsonl.
        failed: reason -> rows of failed.jsonl.
        ended_early: reason -> written rows that lack their last turns.
        turns: answers in written rows.
        tokens: of these answers, end tokens included where they were counted.
        cut: of these answers, how many did not end.
        may_pass: failures that the next run asks again.
    """

    asked: int = 0
    written: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    ended_early: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    tokens: int = 0
    cut: int = 0
    may_pass: int = 0

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.asked += 1
        if not outcome.is_kept:
            self.failed[outcome.reason] = self.failed.get(outcome.reason, 0) + 1
            self.may_pass += outcome.again
            return
        self.written += 1
        self.turns += len(outcome.replies)
        self.tokens += sum(reply.count for reply in outcome.replies)
        self.cut += sum(reply.cut for reply in outcome.replies)
        if outcome.reason:
            self.ended_early[outcome.reason] = self.ended_early.get(outcome.reason, 0) + 1


def write_data(folder: Path, asks: Asks, journal: Journal, made_by: dict[str, Any]) -> Counts:
    """Writes both files, each whole or not at all.

    Args:
        folder: where.
        asks: everything that was to be asked; each is in the journal.
        journal: how each ended.
        made_by: the target and how it was asked; stored in every row under "regenerated".
    """
    counts, media = Counts(), Media(folder)
    with ExitStack() as stack:
        train, failed = (stack.enter_context(_Lines(folder / name)) for name in ("train.jsonl", "failed.jsonl"))
        for key in asks:
            outcome = journal[key]
            counts.add(outcome)
            if outcome.is_kept:
                train.write(_train_row(asks, key, outcome, media, made_by))
            else:
                failed.write(_failed_row(asks, key, outcome))
    return counts


def _train_row(asks: Asks, key: Key, outcome: Outcome, media: Media, made_by: dict[str, Any]) -> dict[str, Any]:
    dialogue = asks[key]
    conversation = with_answers(dialogue.asked, [reply.text for reply in outcome.replies], len(outcome.replies))
    row = to_row(media.placed(conversation), media.folder)
    if asks.config.samples > 1:
        row["id"] = f"{row['id']}#{key[1] + 1}"
    how: dict[str, Any] = {**made_by, "seed": dialogue.seed} if asks.config.temperature > 0 else dict(made_by)
    if dialogue.is_long:
        how["long_answer"] = True
    if any(reply.cut for reply in outcome.replies):
        how["truncated_answers"] = [i for i, reply in enumerate(outcome.replies) if reply.cut]
    if outcome.reason:
        how["ended_early"] = outcome.reason
    return {**row, **asks.extras(key), "regenerated": how}


def _failed_row(asks: Asks, key: Key, outcome: Outcome) -> dict[str, Any]:
    row = {"id": outcome.id, "source": asks.source(key), "reason": outcome.reason, "detail": outcome.detail}
    return {**row, "sample": key[1] + 1, "asked_again_by_the_next_run": outcome.again}


class _Lines:
    """A JSONL file that appears whole."""

    def __init__(self, file: Path):
        self.file, self.scratch = file, file.with_name(f".{file.name}.writing")

    def __enter__(self) -> "_Lines":
        # a lone surrogate in an id becomes the JSON escape it came from
        self.stream = self.scratch.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def write(self, row: dict[str, Any]) -> None:
        self.stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.stream.close()
        if kind is None:
            self.scratch.replace(self.file)
        else:
            self.scratch.unlink(missing_ok=True)
