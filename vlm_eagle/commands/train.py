"""Trains an EAGLE-3 draft for a Qwen3-VL or Qwen3 target.

    vlm-eagle train                                           # the embedded demo
    vlm-eagle train --config qwen3_vl_2b --data.train train.jsonl
    accelerate launch --num_processes 8 -m vlm_eagle train --config qwen3_vl_2b --data.train train.jsonl

Without --config the demo's settings hold for the demo target, and the defaults below for any other. Run the same command again
to continue an interrupted run. With --dry-run nothing is loaded or written: it says what the run would need, and what to change
when that is more than there is.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_eagle.cli import CONFIGS, INTERRUPTED, find_config, run_cli
from vlm_eagle.config import DEMO, is_demo
from vlm_eagle.config import TrainCommand as Config
from vlm_eagle.provenance import check_output

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def start(argv: Sequence[str]) -> int:
    """Runs it, with the demo's settings where they hold."""
    return run_cli(main, Config, __doc__, default_config=default_config(argv), argv=argv)


def option(argv: Sequence[str], name: str) -> str | None:
    """What follows `--name` on a command line that is not parsed yet, the last time it is given; else None."""
    value = None
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word == f"--{name}":
            value = following
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def ready_settings(target: "PretrainedConfig") -> str | None:
    """What to say of ready settings for this target, unless the command line uses them."""
    from vlm_eagle.training.ready import ready_line

    used = option(sys.argv, "config")
    return ready_line(CONFIGS, target, used and find_config(used))


def default_config(argv: Sequence[str]) -> Path | None:
    """The demo's settings for the demo target, None for any other."""
    return CONFIGS / "demo.yaml" if is_demo(option(argv, "target") or DEMO) else None


def main(command: Config) -> int:
    """Trains, or says what a run would need; returns the exit code (130 after Ctrl-C, 1 for a dry run that does not fit)."""
    from rich.console import Console

    from vlm_eagle.target.load import read_config
    from vlm_eagle.training.dry_run import dry_run

    console = Console(quiet=os.environ.get("RANK", "0") != "0", soft_wrap=not command.dry_run)
    ready = ready_settings(read_config(command.target))
    if command.dry_run:
        return dry_run(command, console, ready)
    from vlm_eagle.api import train

    config = command.train_config()
    check_output(str(config.out), folder=True)
    if ready:
        console.print(ready)
    return 0 if train(config).finished else INTERRUPTED
