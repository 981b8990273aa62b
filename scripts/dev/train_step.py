"""Time and memory of a draft's training step on random features: time does not depend on what they are."""

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from peak_memory import peak_bytes
from random_pair import build_pair

from vlm_eagle.devices import named_device, wait_for
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.evaluation.timing.shapes import vocabulary
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.ttt import ttt_loss
from vlm_eagle.training.ttt_dense import dense_ttt_loss

if TYPE_CHECKING:
    from train_speed import TrainSpeedConfig


def measure_all(config: "TrainSpeedConfig") -> list[dict[str, Any]]:
    """A row for each length and supervised fraction."""
    device = named_device(config.device)
    width = config.draft_vocab_size or (1024 if config.shape == "tiny" else 32_000)
    target, draft = build_pair(config.shape, width, getattr(torch, config.dtype), device)
    draft = draft.float()
    return [_measure(config, target, draft, t, f) for t in config.lengths for f in config.fractions]


def _measure(config: "TrainSpeedConfig", target: Target, draft: Eagle3Draft, length: int, fraction: float) -> dict[str, Any]:
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


def _batch(config: "TrainSpeedConfig", target: Target, length: int, fraction: float) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary(config.shape) // 2, (config.batch_size, length), generator=generator)
    supervised = torch.zeros_like(ids, dtype=torch.bool)
    supervised[:, -1 - round(fraction * (length - 1)) : -1] = True
    return Batch(ids, torch.ones_like(ids), supervised).to(target.device)


def _step(config: "TrainSpeedConfig", target: Target, draft: Eagle3Draft, features: TargetFeatures, function, optimizers):
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
