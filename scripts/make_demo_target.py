"""Makes the demo target: builds an 8M-parameter Qwen3-VL, teaches it the demo tasks, and saves it. About an hour of CPU."""

import json
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console

from vlm_eagle.demo import build_target


def main(
    out: Path = Path("outputs/demo-target"),
    steps: int = 2600,
    batch_size: int = 24,
    lr: float = 2e-3,
    seed: int = 0,
    threads: int = 0,
) -> None:
    """Train the demo target from nothing.

    Args:
        out: folder to write.
        steps: optimizer steps.
        batch_size: conversations per step.
        lr: peak learning rate of Muon and AdamW.
        seed: seed of weights and data.
        threads: torch threads, 0 for torch's own choice.
    """
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    model, processor = build_target.build(seed)
    console.print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
    log = build_target.train(model, processor, **settings, checkpoint=out, console=console)
    build_target.save(model, processor, out)
    (out / "training_log.json").write_text(json.dumps({**settings, "log": log}, indent=1))


if __name__ == "__main__":
    auto_cli(main)
