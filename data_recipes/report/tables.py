"""A data report on the screen."""

from typing import Any

from rich.console import Console
from rich.table import Table

TOP = 12  # languages shown


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints the summary."""
    console.print(_totals(summary))
    if summary["dropped"]:
        console.print(_dropped(summary))
    if summary["kept"]:
        console.print(_lengths(summary))
        console.print(_languages(summary))


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _totals(summary: dict[str, Any]) -> Table:
    table = Table(title="Data", title_justify="left", show_header=False)
    media = summary["media"]
    for name, value in (
        ("rows read", f"{summary['read']:,}"),
        ("samples kept", f"{summary['kept']:,}"),
        ("rows dropped", f"{sum(summary['dropped'].values()):,}"),
        ("tokens", f"{summary['tokens']:,}"),
        ("supervised", f"{summary['supervised']:,} ({summary['supervised_share']:.1%})"),
        ("image tokens", f"{summary['image_tokens']:,} ({summary['image_share']:.1%})"),
        ("answers", f"{summary['answers']:,}"),
        ("samples with media", f"{media['samples']:,} ({media['images']:,} images, {media['videos']:,} videos)"),
    ):
        table.add_row(name, value)
    return table


def _dropped(summary: dict[str, Any]) -> Table:
    table = Table(title="Dropped", title_justify="left")
    for name in ("reason", "rows", "for example"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for reason, count in summary["dropped"].items():
        table.add_row(reason, f"{count:,}", printable(summary["examples"][reason][0])[:200])
    return table


def _lengths(summary: dict[str, Any]) -> Table:
    names = list(summary["lengths"]["quantiles"])
    table = _table("Tokens per sample", "", "mean", *names)
    for title, key in (("all", "lengths"), ("supervised", "answer_lengths")):
        values = summary[key]
        table.add_row(title, f"{values['mean']:,.0f}", *(f"{values['quantiles'][name]:,}" for name in names))
    return table


def _languages(summary: dict[str, Any]) -> Table:
    vocabulary = summary["vocabulary"]
    columns = [f"{one['size']:,}" for one in vocabulary]
    table = _table(
        "Languages of answers, and what a draft vocabulary of so many tokens covers", "", "samples", "share", *columns
    )
    table.add_row("all", f"{summary['kept']:,}", "100.0%", *(f"{one['overall']:.2%}" for one in vocabulary), end_section=True)
    for name, language in list(summary["languages"].items())[:TOP]:
        covered = (f"{one['by_language'][name]:.2%}" for one in vocabulary)
        table.add_row(name, f"{language['samples']:,}", f"{language['share']:.1%}", *covered)
    if (more := len(summary["languages"]) - TOP) > 0:
        table.caption = f"and {more} more"
    return table


def printable(text: object) -> str:
    """Text that shows its control characters instead of obeying them: those of terminals, and those that turn the direction of
    writing. Lone surrogates, which no file can hold, come out the same way."""
    text = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c in "\n\t" or not _hidden(c) else c.encode("unicode_escape").decode() for c in text)


def _hidden(character: str) -> bool:
    return (
        character < " "
        or "\x7f" <= character <= "\x9f"
        or character in "\u200e\u200f\u2028\u2029\u061c"
        or ("\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069")
    )
