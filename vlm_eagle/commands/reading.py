"""What the commands that read data as training does have in common: their options, and the data behind them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes import demo
from vlm_eagle.config import DEMO
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from vlm_eagle.data.collator import VisionCollator
    from vlm_eagle.data.dataset import ConversationDataset
    from vlm_eagle.data.preparation import Preparation


@dataclass(kw_only=True)
class Reading:
    """Data, and how a target reads it.

    Attributes:
        target: folder or hub id of the target, whose processor is used, or demo; no weights are loaded.
        data: JSONL files of conversations, or demo.
        max_length: longest sample in tokens, as in training.
        min_pixels: as data.min_pixels in training.
        max_pixels: as data.max_pixels in training.
        llm_only: as in training.
    """

    target: str = DEMO
    data: list[str] = field(default_factory=lambda: [DEMO])
    max_length: int = 2048
    min_pixels: int | None = None
    max_pixels: int | None = None
    llm_only: bool = False


@dataclass(kw_only=True)
class Preparing(Reading):
    """Data that is read as a whole.

    Attributes:
        workers: processes that tokenise.
        cache: as data.cache in training.
    """

    workers: int = os.cpu_count() or 1
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers may not be negative, found {self.workers}.")


def open_data(config: Reading, console: Console) -> "tuple[ConversationDataset, VisionCollator]":
    """The rows, and what encodes them. The demo's data is made if it is not there yet.

    Raises:
        UserError: no such target or data.
    """
    from vlm_eagle.data.collator import VisionCollator
    from vlm_eagle.data.dataset import ConversationDataset
    from vlm_eagle.data.media import set_pixel_budget
    from vlm_eagle.target.load import load_processor

    files = config.data
    if DEMO in files:
        folder = demo.make(console=console)
        files = [str(folder / "train.jsonl") if name == DEMO else name for name in files]
    processor = load_processor(config.target)
    set_pixel_budget(processor, config.min_pixels, config.max_pixels)
    collator = VisionCollator(processor, max_length=config.max_length, llm_only=config.llm_only)
    return ConversationDataset(files), collator


@contextmanager
def prepared(
    config: Preparing, dataset: "ConversationDataset", collator: "VisionCollator", console: Console
) -> "Iterator[Preparation]":
    """The rows, prepared, with a bar while they are read."""
    from vlm_eagle.data.preparation import Preparation
    from vlm_eagle.data.prepared_cache import PreparedCache

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Reading", total=len(dataset))
        yield Preparation(
            dataset, collator, cache=PreparedCache(config.cache, collator), workers=config.workers,
            done=lambda rows: bar.advance(task, rows),
        )  # fmt: skip
