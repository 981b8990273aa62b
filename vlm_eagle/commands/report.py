"""A page that shows what a draft knows: tables, figures, and every token of the samples by who wrote it.

    vlm-eagle report outputs/demo/acc_length.json outputs/demo/speedup.json --out outputs/demo/report.html

The page is one file that needs no network. The figures are also written beside it as PNG.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from vlm_eagle.cli import run_cli
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.figures import figures
from vlm_eagle.evaluation.reporting.files import write_bytes
from vlm_eagle.evaluation.reporting.labels import labels
from vlm_eagle.evaluation.reporting.page import Options, render
from vlm_eagle.evaluation.reporting.png import write_pngs
from vlm_eagle.evaluation.reporting.read import read_results
from vlm_eagle.evaluation.reporting.samples import collect


@dataclass(kw_only=True)
class Config:
    """What to show and where.

    Attributes:
        results: files that score or speedup wrote; may be given first, without --results.
        out: the page.
        title: its heading.
        images: folders that hold the samples' images, besides those of the result files and the current one.
        samples: how many to show at most, evenly over the benchmarks.
        png: also write each figure as OUT-NAME.png (needs matplotlib).
    """

    results: list[str] = field(default_factory=list)
    out: str = "report.html"
    title: str = "What the draft knows"
    images: list[str] = field(default_factory=list)
    samples: int = 500
    png: bool = True

    def __post_init__(self) -> None:
        if not self.results:
            raise UserError("Give at least one result file, as in: vlm-eagle report outputs/demo/acc_length.json")
        if self.samples < 0:
            raise UserError("samples must not be negative.")


def start(argv: Sequence[str]) -> int:
    """Runs it; files may stand first, without --results."""
    files_first = ["--results"] if argv and not argv[0].startswith("-") else []
    return run_cli(main, Config, __doc__, argv=[*files_first, *argv])


def main(config: Config) -> None:
    """Reads the results, writes the page and the figures."""
    console, out = Console(), Path(config.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page is HTML, and {out} does not end in .html.")
    results = read_results([Path(file) for file in config.results])
    names = labels([setting.kind for setting in results.settings], [setting.file for setting in results.settings])
    charts = figures(results, names)
    samples, found = collect(results.settings, config.samples)
    folders = [Path.cwd(), *map(Path, config.images)]
    with console.status(f"Writing {len(samples)} samples"):
        page = render(results, names, charts, samples, found, Options(config.title, folders))
    write_bytes(out, page.encode("utf-8"))
    console.print(f"Written to {out} ({len(page.encode()) / 1e6:.1f} MB, {len(samples)} samples)")
    if config.png:
        for file in write_pngs(charts, out.parent, out.stem):
            console.print(f"Written to {file}")
