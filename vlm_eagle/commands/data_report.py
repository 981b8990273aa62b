"""Reports what a data set holds, as training will see it: on the screen, and as a page to look at.

    vlm-eagle data-report
    vlm-eagle data-report --target Qwen/Qwen3-VL-2B-Instruct --data train.jsonl --workers 8 --out outputs/my-data

Writes OUT/report.html (one file, no network), OUT/report.json, and OUT/dropped.jsonl with every row that training would skip.
Rows are tokenised and image headers read; pixels are decoded only of the samples that are shown. What was counted once is kept
and used by training, and by the next report.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data_recipes.report import SIZES
from vlm_eagle.atomic import atomic_path
from vlm_eagle.cli import check_output
from vlm_eagle.commands.reading import Preparing, open_data, prepared
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, write_bytes, write_json

if TYPE_CHECKING:
    from data_recipes.report.statistics import DataStatistics
    from vlm_eagle.data.collator import VisionCollator
    from vlm_eagle.data.dataset import ConversationDataset


@dataclass(kw_only=True)
class Config(Preparing):
    """What to report on.

    Attributes:
        out: folder for the report.
        samples: how many samples to show, drawn at random.
        seed: of that draw.
        vocab_sizes: draft vocabularies whose coverage is compared.
    """

    out: str = "outputs/data_report"
    samples: int = 24
    seed: int = 0
    vocab_sizes: list[int] = field(default_factory=lambda: list(SIZES))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 0 or not self.vocab_sizes or min(self.vocab_sizes) < 1:
            raise UserError("samples may not be negative, and vocab_sizes are numbers greater than 0.")


def main(config: Config) -> None:
    """Counts, prints and writes."""
    from data_recipes.report.page import render, shown_sample
    from data_recipes.report.statistics import summarise
    from data_recipes.report.tables import show
    from vlm_eagle.data.media import image_budget
    from vlm_eagle.target.load import read_config

    console, out = Console(markup=False), Path(config.out)
    check_output(out, folder=True)
    dataset, collator = open_data(config, console)
    vocab_size = read_config(config.target).get_text_config().vocab_size
    found = _collect(config, dataset, collator, vocab_size, out / "dropped.jsonl", console)
    summary = summarise(found, config.vocab_sizes)
    show(summary, console)
    about = {
        "target": config.target, "data": " ".join(config.data), "longest sample": f"{config.max_length:,} tokens",
        "pixels of an image": "{:,} to {:,}".format(*image_budget(collator.vision)) if collator.vision else "no images",
    }  # fmt: skip
    chosen = [dataset[row] for row in found.chosen]
    page = render(summary, [shown_sample(row, collator) for row in chosen if not isinstance(row, BadRow)], about)
    write_bytes(out / "report.html", page.encode())
    write_json(out / "report.json", summary | {"run": describe_run(config=asdict(config))})
    console.print(f"Report: {out / 'report.html'}", highlight=False)


def _collect(
    config: Config, dataset: "ConversationDataset", collator: "VisionCollator", vocab_size: int, dropped: Path, console: Console
) -> "DataStatistics":
    from data_recipes.report.statistics import collect

    with (
        prepared(config, dataset, collator, console) as preparation,
        atomic_path(dropped) as scratch,
        scratch.open("w") as file,
    ):

        def drop(row: int, error: BadRow) -> None:
            file.write(json.dumps({"row": row, "source": error.source, "reason": error.reason, "error": str(error)}) + "\n")

        return collect(preparation, vocab_size, config.samples, config.seed, drop)
