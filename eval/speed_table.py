"""The tables of `speedup.py`."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from vlm_eagle.decoding.auto import Forecast


def speed_table(result: dict[str, Any], base: str) -> Table:
    """Methods by rows: tokens per second after the first token and in all (prompt and images included), each with its gain over
    `base`; tau is the acceptance length, `first` the time to the first token."""
    rows = result["methods"]
    table = Table(title=f"Speed, {result['shape']}, concurrency {result['concurrency']}")
    table.add_column("Method")
    for name in ("decode\ntok/s", "gain", "in all\ntok/s", "gain", "tau", "first\nms", "equal\nanswers"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        cells = []
        for kind in ("decode_tokens_per_second", "end_to_end_tokens_per_second"):
            cells += [f"{row[kind]:.1f}", f"{row[kind] / rows[base][kind]:.2f}x" if base in rows else ""]
        tau = row["acceptance_length"]
        equal = "" if row["equal_to_target_alone"] is None else f"{row['equal_to_target_alone']}/{row['answers']}"
        table.add_row(name, *cells, f"{tau:.2f}" if tau else "", f"{1e3 * row['first_token_seconds']:.0f}", equal)
    return table


def cost_table(model: dict[str, Any]) -> Table:
    """The speed model: a cycle's parts in plain decode steps, and predicted against seen speedup."""
    table = Table(title="Speed model: acceptance length / (r_verify + r_extend + r_draft + r_overhead)")
    for name in ("step\nms", "r_verify", "r_extend", "r_draft", "r_over-\nhead", "tau", "pre-\ndicted", "seen"):
        table.add_column(name, justify="right")
    parts = [f"{model[name]:.3f}" for name in ("r_verify", "r_extend", "r_draft", "r_overhead")]
    speedups = [f"{model[name]:.2f}x" for name in ("predicted_speedup", "seen_speedup")]
    table.add_row(f"{1e3 * model['step_seconds']:.2f}", *parts, f"{model['acceptance_length']:.2f}", *speedups)
    return table


def forecast_table(forecasts: Sequence[Forecast], rows: int = 6) -> Table:
    """The best shapes by forecast."""
    table = Table("Shape", title="Forecast by measured costs and acceptance")
    for name in ("acceptance length", "ms per cycle", "speedup"):
        table.add_column(name, justify="right")
    for forecast in forecasts[:rows]:
        shape = "no draft" if forecast.shape.num_draft_tokens == 1 else forecast.shape.label
        table.add_row(shape, f"{forecast.acceptance_length:.2f}", f"{1e3 * forecast.seconds:.2f}", f"{forecast.speedup:.2f}x")
    return table
