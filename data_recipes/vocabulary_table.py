"""Draft vocabularies of several sizes, compared in a table."""

from collections.abc import Sequence

from rich.table import Table

from data_recipes.vocabulary import VocabularySize

LANGUAGES = 5  # columns of the table


def vocabulary_table(rows: Sequence[VocabularySize], languages: Sequence[str], chosen: int | None) -> Table:
    """A row per size; `languages` are in the order of their columns, as far as there is room."""
    table = Table(title="Draft vocabularies: share of learned tokens covered, and cost", title_justify="left")
    languages, rest = languages[:LANGUAGES], languages[LANGUAGES:]
    if rest:
        table.caption = f"and {len(rest)} rarer languages, which --every-language counts too: {', '.join(rest)}"
    for name in ("tokens", "all", *languages, "lm_head\nweights", "MiB read\nper step", "of whole\nvocab's"):
        table.add_column(name, justify="right")
    for row in rows:
        covered = [f"{row.by_language[name]:.2%}" for name in languages]
        cost = (f"{row.head_parameters:,}", f"{row.step_bytes / 2**20:,.1f}", f"{row.step_cost:.0%}")
        style = "bold green" if row.size == chosen else None
        table.add_row(f"{row.size:,}", f"{row.overall:.2%}", *covered, *cost, style=style)
    return table
