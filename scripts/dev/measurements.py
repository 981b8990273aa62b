"""What the measuring scripts do with their results: a table on the screen, and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlm_eagle.evaluation.scores.acceptance_tables import numbers_table, results_console
from vlm_eagle.provenance import describe_run, write_json


def show_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A column per key; the first names the rows."""
    first, *keys = dict.fromkeys(key for row in rows for key in row)
    table = numbers_table(title, first, [key.replace("_", "\n") for key in keys])
    for row in rows:
        values = [row.get(key, "") for key in (first, *keys)]
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    results_console().print(table)


def write_results(file: str | Path, config: Any, **results: Any) -> None:
    """JSON with the settings and the machine; `config` is the script's dataclass of options."""
    write_json(Path(file), {"run": describe_run(config=asdict(config)), **results})
    print(f"Written to {file}")
