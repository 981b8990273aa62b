"""A page that shows what a draft knows: tables, figures, and every token of the samples by who wrote it.

    vlm-eagle report outputs/demo/acc_length.json outputs/demo/speedup.json --out outputs/demo/report.html
    vlm-eagle report outputs/demo/acc_length.json --png sample.png     # also one sample as a picture, for a README

The page is one file that needs no network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from vlm_eagle.cli import run_cli
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.inputs import read_inputs
from vlm_eagle.evaluation.reporting.page import render
from vlm_eagle.evaluation.reporting.sample_png import sample_png
from vlm_eagle.provenance import write_bytes


@dataclass(kw_only=True)
class Config:
    """What to show and where.

    Attributes:
        results: files that score or speedup wrote; may be given first, without --results.
        out: the page.
        title: its heading.
        images: folders that hold the samples' images, besides those of the result files and the current one.
        samples: how many to show at most, evenly over the benchmarks.
        png: also draw one sample, its picture and its answer with the tokens shaded by who wrote them, to this PNG file
            (needs matplotlib).
        png_sample: id of the prompt to draw; none for a typical one with a picture.
    """

    results: list[str] = field(default_factory=list)
    out: str = "report.html"
    title: str = "What the draft knows"
    images: list[str] = field(default_factory=list)
    samples: int = 500
    png: str | None = None
    png_sample: str | None = None

    def __post_init__(self) -> None:
        if not self.results:
            raise UserError("Give at least one result file, as in: vlm-eagle report outputs/demo/acc_length.json")
        if self.samples < 0:
            raise UserError("samples must not be negative.")
        if Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise UserError(f"The page is HTML, and {self.out} does not end in .html.")
        if self.png is not None and Path(self.png).suffix.lower() != ".png":
            raise UserError(f"The sample is drawn as PNG, and {self.png} does not end in .png.")


def start(argv: Sequence[str]) -> int:
    """Runs it; files may stand first, without --results."""
    files_first = ["--results"] if argv and not argv[0].startswith("-") else []
    return run_cli(main, Config, __doc__, argv=[*files_first, *argv])


def main(config: Config) -> None:
    """Reads the results, writes the page and the PNG."""
    console = Console()
    found = read_inputs([Path(file) for file in config.results])
    folders = [Path.cwd(), *map(Path, config.images)]
    with console.status("Writing the page"):
        page, shown = render(found, title=config.title, folders=folders, max_samples=config.samples)
    _write(Path(config.out), page.encode("utf-8"))
    console.print(f"Written to {config.out} ({len(page.encode()) / 1e6:.1f} MB, {shown} samples)")
    if config.png is not None:
        _write(Path(config.png), sample_png(found, folders, config.png_sample))
        console.print(f"Written to {config.png}")


def _write(file: Path, data: bytes) -> None:
    try:
        write_bytes(file, data)
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror}.") from error
