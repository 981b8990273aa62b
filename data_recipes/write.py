"""Last pass: the files of a recipe, rows in the order of the draw, so that any beginning of a file is a fair sample of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from data_recipes.choose import Choice
from data_recipes.gather import NOT_DRAWN, Tally
from data_recipes.measure import Facts
from data_recipes.row_buffer import RowBuffer


def write_rows(
    folder: Path, buffer: RowBuffer, facts: Facts, choice: Choice, step: Callable[[int], None] = lambda done: None
) -> None:
    """Writes train.jsonl and held_out.jsonl into `folder`."""
    offsets, keys = buffer.offsets, buffer.draw_keys
    order = np.flatnonzero(choice.kept)
    order = order[np.argsort(keys[order], kind="stable")]
    with (
        buffer.file.open("rb") as rows,
        (folder / "train.jsonl").open("wb") as train,
        (folder / "held_out.jsonl").open("wb") as held_out,
    ):
        for done, i in enumerate(order.tolist(), 1):
            line = _line(rows, offsets, i)
            # the language, put into the object as it stands: parsing it again would double the time of this pass
            line = line[:-1] + f', "language": "{facts.language[i]}"}}\n'.encode()
            (held_out if choice.held_out[i] else train).write(line)
            step(done)


def settle(buffer: RowBuffer, choice: Choice, tallies: list[Tally], rejected: TextIO) -> None:
    """Completes the tallies, and writes down the duplicates with what they repeat."""
    offsets, parts = buffer.offsets, buffer.parts
    with buffer.file.open("rb") as rows:
        for i in np.flatnonzero(choice.copy_of >= 0).tolist():
            row, original = json.loads(_line(rows, offsets, i)), json.loads(_line(rows, offsets, int(choice.copy_of[i])))
            reason, detail = ("near duplicate", "nearly the same as") if choice.near[i] else ("duplicate", "the same as")
            tallies[parts[i]].drop(reason, rejected, row["source"], f"{detail} {original['id']} ({original['source']})")
    for number, tally in enumerate(tallies):
        tally.kept = int((choice.kept & (parts == number)).sum())
        if surplus := int((choice.surplus & (parts == number)).sum()):
            tally.dropped[NOT_DRAWN] += surplus


def drop_unused_pictures(folder: Path, buffer: RowBuffer, choice: Choice) -> int:
    """Deletes pictures of conversations that were not kept; returns how many remain."""
    images = folder / "images"
    if not images.is_dir():
        return 0
    offsets, used = buffer.offsets, set()
    with buffer.file.open("rb") as rows:
        for i in np.flatnonzero(choice.kept).tolist():
            for message in json.loads(_line(rows, offsets, i))["messages"]:
                if not isinstance(message["content"], str):
                    used.update(part["image"] for part in message["content"] if part["type"] == "image")
    for file in images.rglob("*"):
        if file.is_file() and file.relative_to(folder).as_posix() not in used:
            file.unlink()
    for sub in images.iterdir():
        if not any(sub.iterdir()):
            sub.rmdir()
    if not used:
        images.rmdir()
    return len(used)


def _line(rows: BinaryIO, offsets: np.ndarray, i: int) -> bytes:
    rows.seek(int(offsets[i]))
    return rows.read(int(offsets[i + 1] - offsets[i]) - 1)
