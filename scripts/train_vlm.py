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

from vlm_eagle.cli import INTERRUPTED, check_output, option, run_cli
from vlm_eagle.config import DEMO, TrainCommand, is_demo

CONFIGS = Path(__file__).parent / "configs"


def main(command: TrainCommand) -> int:
    """Trains, or says what a run would need; returns the exit code (130 after Ctrl-C, 1 for a dry run that does not fit)."""
    from rich.console import Console

    from vlm_eagle.target.load import read_config
    from vlm_eagle.training.dry_run import dry_run
    from vlm_eagle.training.ready import ready_line

    console = Console(quiet=os.environ.get("RANK", "0") != "0", soft_wrap=not command.dry_run)
    ready = ready_line(CONFIGS, read_config(command.target), option(sys.argv, "config"))
    if command.dry_run:
        return dry_run(command, console, ready)
    from vlm_eagle.api import train

    config = command.run()
    check_output(config.out, folder=True)
    if ready:
        console.print(ready)
    return 0 if train(config).finished else INTERRUPTED


if __name__ == "__main__":
    settings = CONFIGS / "demo.yaml" if is_demo(option(sys.argv, "target") or DEMO) else None
    sys.exit(run_cli(main, TrainCommand, __doc__, default_config=settings))
