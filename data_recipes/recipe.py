"""What a recipe is: where data comes from, on which terms, and how a row of it becomes turns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from data_recipes.readers.turns import Turn
from data_recipes.stream import Row, rows


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One source.

    Attributes:
        name: how the command line calls it.
        about: one sentence.
        origin: a Hub dataset's id, or empty where the user must say where the data lies.
        licence: as its card states it.
        size: as its card or its files state it.
        schema: a row, in short.
        languages: of the answers.
        modality: whether rows hold pictures.
        read: row and `file:row` -> turns; raises BadRow.
        split: of the Hub dataset.
        files: patterns of the files that belong to it.
        archives: patterns of zip files that hold the pictures; in a local folder all its zip files are searched.
        stream: yields the rows of a source; the default reads the files one after another.
    """

    name: str
    about: str
    origin: str
    licence: str
    size: str
    schema: str
    languages: tuple[str, ...]
    modality: Literal["text", "pictures"]
    read: Callable[[Any, str], list[Turn]]
    split: str = "train"
    files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    stream: Callable[..., Iterator[Row]] = rows
