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

from rich.console import Console

from data_recipes.report import SIZES
from vlm_eagle.atomic import atomic_path
from vlm_eagle.commands.options import PreparationOptions
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import check_output, describe_run, write_bytes, write_json


@dataclass(kw_only=True)
class Config(PreparationOptions):
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
    from data_recipes.report.statistics import collect, summarise
    from data_recipes.report.tables import show
    from vlm_eagle.data.media import image_budget
    from vlm_eagle.target.load import read_config

    console, out = Console(markup=False), Path(config.out)
    check_output(out, folder=True)
    dataset, collator = config.open(console)
    vocab_size = read_config(config.target).get_text_config().vocab_size
    out.mkdir(parents=True, exist_ok=True)
    with (
        config.prepare(dataset, collator, console) as preparation,
        atomic_path(out / "dropped.jsonl") as scratch,
        scratch.open("w") as file,
    ):

        def drop(row: int, error: BadRow) -> None:
            file.write(json.dumps({"row": row, "source": error.source, "reason": error.reason, "error": str(error)}) + "\n")

        found = collect(preparation, vocab_size, config.samples, config.seed, drop)
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
