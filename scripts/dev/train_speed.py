"""What a draft's training step costs: dense against anchor-sparse, and against its floor, the target's forward alone.

    python scripts/dev/train_speed.py
    python scripts/dev/train_speed.py --shape qwen3-vl-2b --dtype bfloat16 --lengths 2048 --fractions 0.12 --dense false

A step is forward, backward and update of the draft. Features and weights are random: time does not depend on them. Memory is
what a step allocates at its peak beyond weights, gradients, optimizer state and features. A sample's answer stands at its end,
behind the image and the question.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from measurements import show_rows, write_results

from vlm_eagle.cli import run_cli
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.timing.shapes import SHAPES, vocabulary

if TYPE_CHECKING:
    from vlm_eagle.draft.model import Eagle3Draft
    from vlm_eagle.records import Batch
    from vlm_eagle.target.target import Target


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
            raise UserError("fractions must be greater than 0 and at most 1.")
        if min(self.batch_size, self.ttt_length, self.repeats, *self.lengths) < 1:
            raise UserError("lengths, batch_size, ttt_length and repeats must be at least 1.")


def main(config: TrainSpeedConfig) -> None:
    """Prints the table and writes the JSON."""
    import torch
    from random_pair import build_pair

    from vlm_eagle.devices import named_device

    width = config.draft_vocab_size or (1024 if config.shape == "tiny" else 32_000)
    target, draft = build_pair(config.shape, width, getattr(torch, config.dtype), named_device(config.device))
    rows = [_measure(config, target, draft.float(), t, f) for t in config.lengths for f in config.fractions]
    show_rows(f"A draft step, {config.shape}, {config.dtype}, batch {config.batch_size}, {config.ttt_length} TTT steps", rows)
    write_results(config.json, config, rows=rows)


def _measure(config: TrainSpeedConfig, target: "Target", draft: "Eagle3Draft", length: int, fraction: float) -> dict[str, Any]:
    from peak_memory import peak_bytes

    from vlm_eagle.devices import wait_for

    batch = _batch(config, target, length, fraction)
    steps = _steps(config, target, draft, batch)
    seconds: dict[str, list[float]] = {name: [] for name in [*steps, "target"]}
    for number in range(config.repeats + 1):  # the first pass warms up
        for name, step in [*steps.items(), ("target", lambda: target.features(batch))]:
            wait_for(target.device)
            started = time.perf_counter()
            step()
            wait_for(target.device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    row: dict[str, Any] = {"length": length, "supervised_fraction": fraction}
    row |= {f"{name}_seconds": median(times) for name, times in seconds.items()}
    row |= {f"{name}_bytes": peak_bytes(step, target.device) for name, step in steps.items()}
    if "dense" in steps:
        row["times_faster"] = median(d / s for d, s in zip(seconds["dense"], seconds["sparse"], strict=True))
        row["memory_share"] = row["sparse_bytes"] / row["dense_bytes"]
    row["online_step_over_floor"] = 1 + row["sparse_seconds"] / row["target_seconds"]
    return row


def _batch(config: TrainSpeedConfig, target: "Target", length: int, fraction: float) -> "Batch":
    import torch

    from vlm_eagle.records import Batch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary(config.shape) // 2, (config.batch_size, length), generator=generator)
    loss_mask = torch.zeros_like(ids, dtype=torch.bool)
    loss_mask[:, -1 - round(fraction * (length - 1)) : -1] = True
    return Batch(ids, torch.ones_like(ids), loss_mask).to(target.device)


def _steps(config: TrainSpeedConfig, target: "Target", draft: "Eagle3Draft", batch: "Batch") -> dict[str, Callable[[], None]]:
    """What to time, by name."""
    import torch

    from vlm_eagle.training.optim import build_optimizers
    from vlm_eagle.training.ttt import ttt_loss
    from vlm_eagle.training.ttt_dense import dense_ttt_loss

    features = target.features(batch)
    optimizers = build_optimizers(draft, optimizer=config.optimizer, lr=1e-5, weight_decay=0.0)
    half = config.dtype == "bfloat16"

    def step(loss_of: Callable[..., Any]) -> None:
        with torch.autocast(target.device.type, dtype=torch.bfloat16, enabled=half):
            result = loss_of(draft, features, target.embed_tokens, target.logits, ttt_length=config.ttt_length, decay=0.9)
        result.loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    length = batch.input_ids.shape[1]
    scores = 4 * config.batch_size * draft.config.num_attention_heads * config.ttt_length * length**2
    steps = {"sparse": lambda: step(ttt_loss)}
    return steps | ({"dense": lambda: step(dense_ttt_loss)} if config.dense and scores < config.memory_gib * 2**30 else {})


if __name__ == "__main__":
    sys.exit(run_cli(main, TrainSpeedConfig, __doc__))
