"""Sums of a measurement as the tables and the JSON want them."""

from typing import Any

from vlm_eagle.decoding.stats import AcceptanceStats


def benchmark_result(
    name: str, stats: AcceptanceStats, skipped: dict[str, int], prompts: list[dict[str, Any]]
) -> dict[str, Any]:
    """One benchmark's row. Each prompt has at least its `id`, `output_token_ids` and `num_forwards`."""
    return {"name": name, **summary(stats), "skipped": skipped, "prompts": prompts}


def column_result(setting: dict[str, Any], total: AcceptanceStats, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One column of the table: what was drafted, the sums over all benchmarks, and these."""
    average = sum(row["acceptance_length"] for row in rows) / len(rows)
    return {**setting, "average_acceptance_length": average, "totals": summary(total), "benchmarks": rows}


def summary(stats: AcceptanceStats) -> dict[str, Any]:
    """Sums and their ratios."""
    return {
        "tokens": stats.tokens,
        "forwards": stats.forwards,
        "acceptance_length": stats.acceptance_length,
        "by_position": stats.by_position,
        "conditional": stats.conditional,
    }
