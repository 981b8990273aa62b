"""The tables a model card shows, from the settings of the results."""

import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vlm_eagle.evaluation.benchmarks import in_words
from vlm_eagle.evaluation.result_schema import AcceptanceResult, AcceptanceSums, DecodingSetup, Interval, ShapeForecast
from vlm_eagle.evaluation.scores.names import short_names
from vlm_eagle.evaluation.scores.option_words import sampling_label
from vlm_eagle.evaluation.scores.sums import stretch_name, stretch_of


def results_console(quiet: bool = False) -> Console:
    """Prints names as they are, whatever brackets they have, and tables whole: a file or a pipe is as wide as they need."""
    console = Console(quiet=quiet, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 240
    return console


def numbers_table(title: str, rows: str, columns: Sequence[str]) -> Table:
    """A table of numbers, its first column the names of the rows. In a narrow terminal numbers break, but none is cut off."""
    table = Table(title=title)
    table.add_column(rows, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def acceptance_table(settings: Sequence[AcceptanceResult]) -> Table:
    """Benchmark rows, one column per setting, with 95 % intervals. `Average` is the mean of the rows, as model cards give it;
    `All` is total tokens over total forwards."""
    table = numbers_table("Acceptance length (tokens per target forward, bonus included)", "Benchmark", titles(settings))
    lengths = [{row.name: with_interval(row) for row in setting.benchmarks} for setting in settings]
    for name in dict.fromkeys(name for column in lengths for name in column):
        table.add_row(name, *(column.get(name, "-") for column in lengths))
    table.add_section()
    table.add_row("Average", *(f"{s.average_acceptance_length:.2f}{low_high(s.average_interval)}" for s in settings))
    table.rows[-1].style = "bold"
    table.add_row("All", *(with_interval(setting.totals) for setting in settings))
    return table


def position_table(settings: Sequence[AcceptanceResult]) -> Table:
    """Per position of the draft's proposal, over all benchmarks: the share accepted where all before it were, and of all."""
    title = "Acceptance rate by position: given the ones before / unconditional"
    table = numbers_table(title, "Position", titles(settings))
    totals = [setting.totals for setting in settings]
    for i in range(max(len(t.by_position) for t in totals)):
        cells = [f"{t.conditional[i]:.1%} / {t.by_position[i]:.1%}" if i < len(t.by_position) else "" for t in totals]
        table.add_row(f"acc_{i}" + (" (1st draft token)" if i == 0 else ""), *cells)
    return table


def breakdown_table(settings: Sequence[AcceptanceResult]) -> Table:
    """Acceptance length by kind of prompt, by turn, and along the answer; a line only where there are several kinds."""
    table = numbers_table("Where: acceptance length by kind of prompt and place in the answer", "", titles(settings))
    for name in ("modality", "language", "turn"):
        kinds = dict.fromkeys(kind for s in settings for kind in getattr(s.breakdowns, name))
        for kind in kinds if len(kinds) > 1 else ():
            found = [getattr(s.breakdowns, name).get(kind) for s in settings]
            table.add_row(f"{name} {kind}", *(with_interval(row) if row else "-" for row in found))
        table.add_section()
    stretches = [{stretch_of(row.start): row for row in s.breakdowns.answer_position} for s in settings]
    for number in sorted({number for rows in stretches for number in rows}):
        found = [rows.get(number) for rows in stretches]
        table.add_row(f"tokens {stretch_name(number)}", *(f"{row.acceptance_length:.2f}" if row else "-" for row in found))
    table.add_section()
    lengths = [setting.breakdowns.answer_tokens for setting in settings]
    table.add_row("answer's tokens", *(f"mean {row.mean:.0f}, max {row.max}" if row else "" for row in lengths))
    return table


def titles(settings: Sequence[AcceptanceResult]) -> list[str]:
    """A head for each column: its tree, and whatever else differs between the columns."""
    names = short_names(setting.draft for setting in settings)
    drafts = len({setting.draft for setting in settings}) > 1
    samplings = len({str(setting.sampling) for setting in settings}) > 1
    heads = []
    for setting in settings:
        lines = [names[setting.draft]] if drafts else []
        lines += [sampling_label(setting.sampling)] if samplings else []
        n = setting.num_draft_tokens or 1
        lines += [f"num_draft_tokens={n}", f"(vLLM: {n - 1}; {tree_kind(setting)})"]
        heads.append("\n".join(lines))
    return heads


def tree_kind(setup: DecodingSetup | ShapeForecast) -> str:
    """A chain, or the tree's other two parameters."""
    if setup.topk == 1:
        return "chain"
    kind = "fixed tree" if getattr(setup, "paths", None) else "tree"
    return f"{kind}, topk {setup.topk}, steps {setup.num_steps}"


def with_interval(sums: AcceptanceSums) -> str:
    """3.31 [3.20, 3.42]"""
    return f"{sums.acceptance_length:.2f}{low_high(sums.interval)}"


def low_high(interval: Interval | None) -> str:
    """What follows a number: its interval, or nothing."""
    return f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""


def show(console: Console, settings: list[AcceptanceResult]) -> None:
    """Prints the tables of results, and what must be said of them."""
    for table in (acceptance_table, position_table, breakdown_table):
        console.print(table(settings))
    for row in settings[0].benchmarks:
        if row.skipped:
            console.print(f"{row.name}: skipped {in_words(row.skipped)}")
    for name, skipped in settings[0].unanswered.items():
        console.print(f"{name}: left out, no prompt could be answered: {in_words(skipped)}", style="yellow")
    if all(s.totals.forwards and s.totals.tokens <= s.totals.forwards for s in settings):
        console.print("The target accepted no draft token at all. docs/engines.md names usual reasons.", style="yellow")
    for setting, title in zip(settings, titles(settings), strict=True):
        if setting.totals.answers is not None:
            equal, answers = setting.totals.equal_to_target_alone, setting.totals.answers
            console.print(f"{' '.join(title.split())}: {equal} of {answers} answers equal the target's own.")
