"""Makes the demo target: builds a 7.9M-parameter Qwen3-VL, teaches it the demo tasks, and measures what it sees.

Takes about an hour on two CPU cores. The result lies in the repository already; nobody needs to run this to use anything.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from vlm_eagle.cli import run_cli
from vlm_eagle.demo import build_target
from vlm_eagle.demo.look import look
from vlm_eagle.provenance import describe_run, write_json
from vlm_eagle.target.load import load_target


@dataclass(kw_only=True)
class DemoTargetConfig:
    """How it is made.

    Attributes:
        out: folder to write.
        steps: optimizer steps; 0 only measures what lies in `out`.
        batch_size: conversations per step.
        lr: peak learning rate of Muon and AdamW.
        seed: of weights and data.
        check: held-out conversations per task to measure on.
    """

    out: str = "outputs/demo-target"
    steps: int = 2600
    batch_size: int = 24
    lr: float = 2e-3
    seed: int = 0
    check: int = 200


def main(config: DemoTargetConfig) -> None:
    """Builds, trains, saves, measures; `made.json` beside the weights is the record."""
    console, out = Console(), Path(config.out)
    if config.steps:
        model, processor = build_target.build(config.seed)
        console.print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
        log = build_target.train(
            model, processor, steps=config.steps, batch_size=config.batch_size, lr=config.lr, seed=config.seed,
            checkpoint=out, console=console,
        )  # fmt: skip
        build_target.save(model, processor, out)
        write_json(out / "made.json", {**describe_run(config=asdict(config)), "log": log})
    sight = look(load_target(str(out), dtype=torch.float32), config.check)
    console.print(sight)
    write_json(out / "sight.json", {"held_out_answers": sight})


if __name__ == "__main__":
    sys.exit(run_cli(main, DemoTargetConfig, __doc__))
