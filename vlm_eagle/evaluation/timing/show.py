"""Prints the tables of a speed measurement."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from vlm_eagle.evaluation.result_schema import SpeedResult
from vlm_eagle.evaluation.timing.speed_tables import cost_table, forecast_table, founding_table, interval_table, speed_table


def show_speeds(console: Console, speeds: Sequence[SpeedResult], names: Mapping[str | None, str]) -> None:
    """Every draft and tree alone; `names` has the short name of each draft."""
    for speed in speeds:
        if speed.forecasts:
            console.print(forecast_table(speed.forecasts))
        console.print(speed_table(speed, names[speed.draft]))
        if speed.draft is not None:
            console.print(interval_table(speed))
        if speed.speed_model:
            console.print(cost_table(speed.speed_model))


def show_side_by_side(console: Console, speeds: Sequence[SpeedResult]) -> None:
    """All drafts and samplings in a table for each tree and concurrency."""
    tables: dict[Any, list[SpeedResult]] = {}
    for speed in speeds:
        if speed.draft is not None:
            tables.setdefault((speed.concurrency, speed.shape), []).append(speed)
    for rows in tables.values():
        console.print(founding_table(rows))
