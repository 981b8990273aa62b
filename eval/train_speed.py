"""What a draft's training step costs: dense against anchor-sparse, and against its floor, the target's forward alone.

    python eval/train_speed.py
    python eval/train_speed.py --shape qwen3-vl-2b --dtype bfloat16 --lengths 2048 --fractions 0.12 --dense false

A step is forward, backward and update of the draft. Features and weights are random: time does not depend on them. Memory is
what a step allocates at its peak beyond weights, gradients, optimizer state and features. A sample's answer lies at its end,
behind the image and the question.
"""

import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from peak_memory import peak_bytes
from rich.console import Console
from rich.table import Table
from timing.shapes import SHAPES, build_pair, vocabulary

from vlm_eagle.cli import run_cli
from vlm_eagle.devices import default_device, wait_for
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, write_json
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.ttt import ttt_loss
from vlm_eagle.training.ttt_dense import dense_ttt_loss


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
        repeats: medians over so many steps.
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


def main(config: TrainSpeedConfig) -> None:
    """Prints the table and writes the JSON."""
    device = default_device() if config.device == "auto" else torch.device(config.device)
    width = config.draft_vocab_size or (1024 if config.shape == "tiny" else 32_000)
    target, draft = build_pair(config.shape, width, getattr(torch, config.dtype), device)
    draft = draft.float()
    rows = [_measure(config, target, draft, t, f) for t in config.lengths for f in config.fractions]
    console = Console()
    console.print(_table(config, rows))
    write_json(Path(config.json), {"run": describe_run(config=asdict(config)), "rows": rows})
    console.print(f"Written to {config.json}")


def _measure(config: TrainSpeedConfig, target: Target, draft: Eagle3Draft, length: int, fraction: float) -> dict[str, Any]:
    batch = _batch(config, target, length, fraction)
    features = target.features(batch)
    ways = {"sparse": ttt_loss}
    scores = 4 * config.batch_size * draft.config.num_attention_heads * config.ttt_length * length**2
    if config.dense and scores < config.memory_gib * 2**30:
        ways["dense"] = dense_ttt_loss
    optimizers = build_optimizers(draft, optimizer=config.optimizer, lr=1e-5, weight_decay=0.0)
    steps = {name: _step(config, target, draft, features, function, optimizers) for name, function in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in [*steps, "target"]}
    for number in range(config.repeats + 1):  # the first pass warms up
        for name, step in [*steps.items(), ("target", lambda: target.features(batch))]:
            started = _now(target.device)
            step()
            if number:
                seconds[name].append(_now(target.device) - started)
    row: dict[str, Any] = {"length": length, "supervised_fraction": fraction}
    row |= {f"{name}_seconds": median(times) for name, times in seconds.items()}
    row |= {f"{name}_bytes": peak_bytes(step, target.device) for name, step in steps.items()}
    if "dense" in steps:
        row["times_faster"] = median(d / s for d, s in zip(seconds["dense"], seconds["sparse"], strict=True))
        row["memory_share"] = row["sparse_bytes"] / row["dense_bytes"]
    row["online_step_over_floor"] = 1 + row["sparse_seconds"] / row["target_seconds"]
    return row


def _batch(config: TrainSpeedConfig, target: Target, length: int, fraction: float) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary(config.shape) // 2, (config.batch_size, length), generator=generator)
    supervised = torch.zeros_like(ids, dtype=torch.bool)
    supervised[:, -1 - round(fraction * (length - 1)) : -1] = True
    return Batch(ids, torch.ones_like(ids), supervised).to(target.device)


def _step(config: TrainSpeedConfig, target: Target, draft: Eagle3Draft, features: TargetFeatures, function, optimizers):
    def step() -> None:
        with torch.autocast(target.device.type, dtype=torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = function(draft, features, target.embed_tokens, target.logits, ttt_length=config.ttt_length, decay=0.9).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    return step


def _now(device: torch.device) -> float:
    wait_for(device)
    return time.perf_counter()


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
