"""Benchmarks by name, as the scripts' option `benchmarks` takes them."""

from collections.abc import Sequence

from rich.console import Console

from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.demo import benchmarks as demo
from vlm_eagle.demo.benchmarks import default_names
from vlm_eagle.errors import UserError

__all__ = ["default_names", "load_benchmark", "load_benchmarks"]


def load_benchmark(name: str, limit: int | None = None, seed: int = 0) -> Benchmark:
    """A demo benchmark by name, or a JSONL file of conversations by path.

    Args:
        name: of the benchmark.
        limit: prompts at most; None for the benchmark's own number.
        seed: of the selection.

    Raises:
        UserError: there is no such benchmark, or it holds no usable prompt.
    """
    return demo.load_benchmark(name, limit)


def load_benchmarks(
    names: Sequence[str], limit: int | None = None, seed: int = 0, console: Console | None = None
) -> list[Benchmark]:
    """Those of several benchmarks that can be used; of the others the console is told why not.

    Raises:
        UserError: none can be used.
    """
    loaded, failed = [], []
    for name in names:
        try:
            loaded.append(load_benchmark(name, limit, seed))
        except UserError as error:
            failed.append(f"{name}: {error}")
    if not loaded:
        raise UserError("\n".join(failed) or "No benchmark was named.")
    for message in failed:
        (console or Console(stderr=True)).print(f"Left out: {message}", style="yellow", markup=False)
    return loaded
