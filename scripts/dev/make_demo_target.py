"""Makes the demo target: builds a 7.9M-parameter Qwen3-VL, teaches it the demo tasks, and measures what it sees.

Takes about an hour on two CPU cores. The result is in the repository; this is needed only to make another one.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from vlm_eagle.cli import run_cli
from vlm_eagle.provenance import describe_run, write_json


@dataclass(kw_only=True)
class DemoTargetConfig:
    """How it is made.

    Attributes:
        out: folder to write.
        start: folder of an earlier result to go on from; none begins with random weights and a new tokenizer.
        steps: optimizer steps; 0 only measures the target in `out`.
        batch_size: conversations per step.
        lr: peak learning rate of Muon and AdamW.
        seed: of weights and data.
        check: held-out conversations per task to measure on.
    """

    out: str = "outputs/demo-target"
    start: str | None = None
    steps: int = 2600
    batch_size: int = 24
    lr: float = 2e-3
    seed: int = 0
    check: int = 200


def main(config: DemoTargetConfig) -> None:
    """Builds, trains, saves, measures; `provenance.json` beside the weights is the record."""
    from vlm_eagle.demo import build_target
    from vlm_eagle.demo.vision_eval import measure_vision
    from vlm_eagle.target.load import load_target

    console, out = Console(), Path(config.out)
    if config.steps:
        model, processor = build_target.build(config.seed) if config.start is None else build_target.load(config.start)
        console.print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
        log = build_target.train(
            model, processor, steps=config.steps, batch_size=config.batch_size, lr=config.lr, seed=config.seed,
            easy_batches=200 if config.start is None else 0, checkpoint=out, console=console,
        )  # fmt: skip
        build_target.save(model, processor, out)
        earlier = json.loads((Path(config.start) / "provenance.json").read_text()) if config.start else []
        write_json(out / "provenance.json", [*earlier, {**describe_run(config=asdict(config)), "log": log}])
    sight = measure_vision(load_target(str(out), dtype="float32"), config.check)
    console.print(sight)
    write_json(out / "eval.json", {"held_out_answers": sight})


if __name__ == "__main__":
    sys.exit(run_cli(main, DemoTargetConfig, __doc__))
