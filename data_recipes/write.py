"""Last pass: the files of a recipe, rows in the order of the draw, so that any beginning of a file is a fair sample of it."""

from pathlib import Path
from typing import TextIO

import numpy as np
from rich.progress import Progress

from data_recipes.choose import Choice
from data_recipes.conversion import images_of
from data_recipes.gather import NOT_DRAWN, Tally
from data_recipes.row_buffer import RowBuffer


def write_rows(folder: Path, buffer: RowBuffer, languages: np.ndarray, choice: Choice, progress: Progress) -> None:
    """Writes train.jsonl and held_out.jsonl into `folder`."""
    order = np.flatnonzero(choice.kept)
    order = order[np.argsort(buffer.columns()["draw_key"][order], kind="stable")].tolist()
    with (folder / "train.jsonl").open("wb") as train, (folder / "held_out.jsonl").open("wb") as held_out:
        for i in progress.track(order, description="write"):
            # the language is put into the JSON text: parsing the line again would double the time of this pass
            line = buffer.line(i)[:-1] + f', "language": "{languages[i]}"}}\n'.encode()
            (held_out if choice.held_out[i] else train).write(line)


def count_and_record(buffer: RowBuffer, choice: Choice, tallies: list[Tally], rejected: TextIO) -> None:
    """Completes the tallies, and writes down the duplicates with what they repeat."""
    parts = buffer.columns()["part"]
    for i in np.flatnonzero(choice.copy_of >= 0).tolist():
        row, original = buffer.row(i), buffer.row(int(choice.copy_of[i]))
        reason, detail = ("near duplicate", "nearly the same as") if choice.near[i] else ("duplicate", "the same as")
        tallies[parts[i]].drop(reason, rejected, row["source"], f"{detail} {original['id']} ({original['source']})")
    for number, tally in enumerate(tallies):
        tally.kept = int((choice.kept & (parts == number)).sum())
        if surplus := int((choice.surplus & (parts == number)).sum()):
            tally.dropped[NOT_DRAWN] += surplus


def delete_unused_pictures(folder: Path, buffer: RowBuffer, choice: Choice) -> int:
    """Deletes pictures of conversations that were not kept; returns how many remain."""
    images = folder / "images"
    if not images.is_dir():
        return 0
    used = {folder / image for i in np.flatnonzero(choice.kept).tolist() for image in images_of(buffer.row(i))}
    for file in sorted(images.rglob("*"), reverse=True):  # files before their folders
        if file.is_dir():
            if not any(file.iterdir()):
                file.rmdir()
        elif file not in used:
            file.unlink()
    if not used:
        images.rmdir()
    return len(used)
