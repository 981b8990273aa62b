"""Recipes: where data comes from, on which terms, and how a row of it becomes messages. `sources.yaml` describes them all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from data_recipes.coco import read_coco, stream_coco
from data_recipes.readers import READERS, MessageDict
from data_recipes.stream import Row, rows

_READERS = {**READERS, "coco": read_coco}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One source.

    Attributes:
        name: how the command line calls it.
        about: one sentence.
        reader: name of the schema its rows are in.
        modality: whether rows hold pictures.
        schema: a row, in short.
        licence: as its card states it.
        size: as its card or its files state it.
        origin: a Hub dataset's id, or empty where the user must say where the data is.
        languages: of the answers.
        split: of the Hub dataset.
        files: patterns of the files that belong to it.
        archives: patterns of zip files that hold the pictures; in a local folder all its zip files are searched.
    """

    name: str
    about: str
    reader: str
    modality: Literal["text", "pictures"]
    schema: str
    licence: str = "that of your data"
    size: str = "that of your data"
    origin: str = ""
    languages: tuple[str, ...] = ()
    split: str = "train"
    files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()

    @property
    def read(self) -> Callable[[Any, str], list[MessageDict]]:
        """Row and `file:row` -> messages; raises BadRow."""
        return _READERS[self.reader]

    def stream(self, source: str, files: tuple[str, ...]) -> Iterator[Row]:
        """The rows at `source`, a Hub id or a local path."""
        return (stream_coco if self.reader == "coco" else rows)(source, self.split, files=files)


def _load() -> dict[str, Recipe]:
    entries: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))
    for entry in entries.values():
        entry |= {key: tuple(entry[key]) for key in ("languages", "files", "archives") if key in entry}
    return {name: Recipe(name=name, **entry) for name, entry in entries.items() if not name.startswith(".")}


RECIPES: dict[str, Recipe] = _load()
