"""The table of benchmarks; with names, the prompts as they would be asked.

    vlm-eagle benchmarks
    vlm-eagle benchmarks --benchmarks gsm8k=data/gsm8k mmspec=MMSpec/dataset/MMSpec/test --limit 2

No model is loaded.
"""

from dataclasses import dataclass, field

from rich.console import Console

from vlm_eagle.evaluation.benchmarks import load_benchmarks
from vlm_eagle.evaluation.benchmarks.show import benchmark_table, show_benchmark


@dataclass(kw_only=True)
class Config:
    """What to show.

    Attributes:
        benchmarks: names, name=source, or JSONL files of conversations, to be read and shown; none for the table of all.
        limit: prompts per benchmark at most.
    """

    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = 3


def main(config: Config) -> None:
    """Prints the table, or the prompts."""
    console = Console()
    if not config.benchmarks:
        console.print(benchmark_table())
        console.print("Give any of them to --benchmarks by name, or as name=folder-or-file in the same schema, or name=hub-id.")
    for benchmark in load_benchmarks(config.benchmarks, config.limit, console=console) if config.benchmarks else ():
        show_benchmark(console, benchmark)
