"""The tables a model card shows, from the results of `acc_length.py`."""

from typing import Any

from rich.table import Table


def acceptance_table(results: list[dict[str, Any]]) -> Table:
    """Benchmark rows, one column per num_draft_tokens. `Average` is the mean of the rows, as model cards give it; `All` is
    total tokens over total forwards."""
    table = Table(title="Acceptance length (tokens per target forward, bonus included)")
    table.add_column("Benchmark")
    for result in results:
        kind = "chain" if result["topk"] == 1 else f"tree, topk {result['topk']}, steps {result['num_steps']}"
        n = result["num_draft_tokens"]
        table.add_column(f"num_draft_tokens={n}\n(vLLM: {n - 1}; {kind})", justify="right")
    for rows in zip(*(result["benchmarks"] for result in results), strict=True):
        table.add_row(rows[0]["name"], *(f"{row['acceptance_length']:.2f}" for row in rows))
    table.add_section()
    table.add_row("Average", *(f"{result['average_acceptance_length']:.2f}" for result in results), style="bold")
    table.add_row("All", *(f"{result['totals']['acceptance_length']:.2f}" for result in results))
    return table


def position_table(results: list[dict[str, Any]]) -> Table:
    """P(i-th proposed token accepted), over all benchmarks, and given that those before it were."""
    table = Table(title="Acceptance by position (unconditional / given the ones before)")
    depth = max(len(result["totals"]["by_position"]) for result in results)
    table.add_column("draft tokens")
    for i in range(depth):
        table.add_column(str(i + 1), justify="right")
    for result in results:
        totals = result["totals"]
        cells = [f"{p:.2f} / {c:.2f}" for p, c in zip(totals["by_position"], totals["conditional"], strict=True)]
        table.add_row(str(result["num_draft_tokens"]), *cells, *[""] * (depth - len(cells)))
    return table
