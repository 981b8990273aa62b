"""Trains an EAGLE-3 draft for a Qwen3-VL or Qwen3 target.

    accelerate launch scripts/train_vlm.py                    # the embedded demo
    accelerate launch scripts/train_vlm.py --config scripts/configs/qwen3_vl_2b.yaml --data.train train.jsonl

Without --config the demo's settings hold for the demo target, and the defaults below for any other. Run the same command again
to continue an interrupted run. With --dry-run nothing is loaded or written: it says what the run would need, and what to change
when that is more than there is.
"""

import os
import sys
from pathlib import Path

from vlm_eagle.cli import check_output, option, run_cli
from vlm_eagle.config import DEMO, TrainCommand, is_demo

CONFIGS = Path(__file__).parent / "configs"


def main(command: TrainCommand) -> int:
    """Resolves the demo data, builds the run and trains; returns the exit code (130 after Ctrl-C, 1 for a dry run that does not
    fit)."""
    from accelerate.utils import set_seed
    from rich.console import Console

    from data_recipes import demo
    from vlm_eagle.target.load import read_config
    from vlm_eagle.training.dry_run import dry_run
    from vlm_eagle.training.launch import make_accelerator
    from vlm_eagle.training.opening import settings_line
    from vlm_eagle.training.ready import ready_line
    from vlm_eagle.training.setup import build_run
    from vlm_eagle.training.trainer import Trainer

    ready = ready_line(CONFIGS, read_config(command.target), option(sys.argv, "config"))
    if command.dry_run:
        return dry_run(command, Console(quiet=os.environ.get("RANK", "0") != "0"), ready)
    config = command.run()
    check_output(config.out, folder=True)
    accelerator = make_accelerator(config.tracker, config.out)
    set_seed(config.seed)
    console = Console(quiet=not accelerator.is_main_process, soft_wrap=True)  # a line of a log stays one line
    if ready:
        console.print(ready)
    if not config.data.features or config.data.fill:  # a store knows its data
        demo.resolve(config.data, accelerator, console)
    run = build_run(config, accelerator)
    accelerator.init_trackers("vlm_eagle")
    console.print(
        f"{len(run.train.dataset):,} samples, draft of {sum(p.numel() for p in run.draft.parameters()):,} parameters, "
        f"aux layer ids {run.target.layer_ids}"
    )
    trainer = Trainer(config, run, accelerator, console)
    console.print(settings_line(config, run, trainer.steps, trainer.all_steps))
    finished = trainer.train()
    if skipped := trainer.all_skipped():
        console.print("Skipped samples: " + ", ".join(f"{reason} {n}" for reason, n in skipped.most_common()))
    if finished:
        held_out = f"simulated acceptance length {trainer.best:.2f}" if run.held_out else "no held-out data to score it"
        console.print(f"Draft: {trainer.out / 'draft'} ({held_out})")
    accelerator.end_training()
    return 0 if finished else 130


if __name__ == "__main__":
    settings = CONFIGS / "demo.yaml" if is_demo(option(sys.argv, "target") or DEMO) else None
    sys.exit(run_cli(main, TrainCommand, __doc__, default_config=settings))
