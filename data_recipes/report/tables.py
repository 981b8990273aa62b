"""A data report on the screen."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

TOP = 12  # languages shown


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints the summary."""
    media = summary["media"]
    totals = Table(title="Data", title_justify="left", show_header=False)
    totals.add_row("rows read", f"{summary['read']:,}")
    totals.add_row("samples kept", f"{summary['kept']:,}")
    totals.add_row("rows dropped", f"{sum(summary['dropped'].values()):,}")
    totals.add_row("tokens", f"{summary['tokens']:,}")
    totals.add_row("supervised", f"{summary['supervised']:,} ({summary['supervised_share']:.1%})")
    totals.add_row("image tokens", f"{summary['image_tokens']:,} ({summary['image_share']:.1%})")
    totals.add_row("answers", f"{summary['answers']:,}")
    totals.add_row("samples with media", f"{media['samples']:,} ({media['images']:,} images, {media['videos']:,} videos)")
    console.print(totals)
    if summary["dropped"]:
        dropped = Table(title="Dropped", title_justify="left")
        for name in ("reason", "rows", "for example"):
            dropped.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
        for reason, count in summary["dropped"].items():
            dropped.add_row(reason, f"{count:,}", Text(summary["examples"][reason][0][:200]))
        console.print(dropped)
    if summary["kept"]:
        lengths = _table("Tokens per sample", ["mean", *summary["lengths"]["quantiles"]])
        for title, key in (("all", "lengths"), ("supervised", "answer_lengths")):
            lengths.add_row(title, f"{summary[key]['mean']:,.0f}", *map("{:,}".format, summary[key]["quantiles"].values()))
        console.print(lengths)
        console.print(_languages(summary))


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _languages(summary: dict[str, Any]) -> Table:
    vocabulary = summary["vocabulary"]
    sizes = (f"{one['size']:,}" for one in vocabulary)
    table = _table("Languages of answers, and what a draft vocabulary of this size covers", ["samples", "share", *sizes])
    table.add_row("all", f"{summary['kept']:,}", "100.0%", *(f"{one['overall']:.2%}" for one in vocabulary), end_section=True)
    for name, language in list(summary["languages"].items())[:TOP]:
        covered = (f"{one['by_language'][name]:.2%}" for one in vocabulary)
        table.add_row(name, f"{language['samples']:,}", f"{language['share']:.1%}", *covered)
    if (more := len(summary["languages"]) - TOP) > 0:
        table.caption = f"and {more} more"
    return table
