"""What a draft's training step costs: dense against anchor-sparse, and against its floor, the target's forward alone.

    python scripts/dev/train_speed.py
    python scripts/dev/train_speed.py --shape qwen3-vl-2b --dtype bfloat16 --lengths 2048 --fractions 0.12 --dense false

A step is forward, backward and update of the draft. Features and weights are random: time does not depend on them. Memory is
what a step allocates at its peak beyond weights, gradients, optimizer state and features. A sample's answer lies at its end,
behind the image and the question.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from vlm_eagle.cli import run_cli
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.timing.shapes import SHAPES
from vlm_eagle.provenance import describe_run, write_json


@dataclass(kw_only=True)
class TrainSpeedConfig:
    """What to measure.

    Attributes:
        shape: whose sizes: tiny, qwen3-0.6b, qwen3-4b, qwen3-8b, qwen3-vl-2b, qwen3-vl-4b, qwen3-vl-8b.
        draft_vocab_size: W; none for 1,024 with tiny and 32,000 otherwise.
        lengths: tokens of a sample.
        fractions: share of them that is supervised.
        batch_size: samples in a step.
        ttt_length: TTT steps.
        optimizer: muon or adamw.
        dtype: of the target; the draft keeps float32 weights and computes in this type.
        dense: time the dense form as well, where its scores (B, H, T, T) fit in memory_gib.
        memory_gib: largest allocation that the dense form may ask for.
        repeats: number of steps that the medians are over.
        device: auto takes a GPU when there is one.
        json: file for the results.
    """

    shape: str = "tiny"
    draft_vocab_size: int | None = None
    lengths: list[int] = field(default_factory=lambda: [512, 1024, 2048])
    fractions: list[float] = field(default_factory=lambda: [0.12, 0.6, 1.0])
    batch_size: int = 1
    ttt_length: int = 7
    optimizer: Literal["muon", "adamw"] = "muon"
    dtype: Literal["float32", "bfloat16"] = "float32"
    dense: bool = True
    memory_gib: float = 4.0
    repeats: int = 5
    device: str = "auto"
    json: str = "outputs/train_speed.json"

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UserError(f"No such shape: {self.shape}. There are {', '.join(SHAPES)}.")
        if not all(0 < f <= 1 for f in self.fractions):
            raise UserError("fractions must lie between 0 and 1.")
        if min(self.batch_size, self.ttt_length, self.repeats, *self.lengths) < 1:
            raise UserError("lengths, batch_size, ttt_length and repeats must be at least 1.")


def main(config: TrainSpeedConfig) -> None:
    """Prints the table and writes the JSON."""
    from train_step import measure_all

    rows, console = measure_all(config), Console()
    console.print(_table(config, rows))
    write_json(Path(config.json), {"run": describe_run(config=asdict(config)), "rows": rows})
    console.print(f"Written to {config.json}")


def _table(config: TrainSpeedConfig, rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"A draft step, {config.shape}, {config.dtype}, batch {config.batch_size}, {config.ttt_length} TTT steps"
    )
    for name in (
        "tokens",
        "super-\nvised",
        "dense\nms",
        "sparse\nms",
        "faster",
        "dense\nMiB",
        "sparse\nMiB",
        "target\nms",
        "step /\nfloor",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        dense = "dense_seconds" in row
        table.add_row(
            str(row["length"]), f"{row['supervised_fraction']:.0%}", f"{1e3 * row['dense_seconds']:.0f}" if dense else "",
            f"{1e3 * row['sparse_seconds']:.0f}", f"{row['times_faster']:.1f}x" if dense else "",
            f"{row['dense_bytes'] / 2**20:.0f}" if dense else "", f"{row['sparse_bytes'] / 2**20:.0f}",
            f"{1e3 * row['target_seconds']:.0f}", f"{row['online_step_over_floor']:.2f}x",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(run_cli(main, TrainSpeedConfig, __doc__))
