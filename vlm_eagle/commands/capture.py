"""Runs the target once over all data and keeps its hidden states on disk, so that training never loads its layers.

    vlm-eagle capture --data.features features             # the embedded demo
    vlm-eagle train --data.features features
    accelerate launch --num_processes 8 -m vlm_eagle capture --config qwen3_vl_30b_a3b --data.features features ...

Takes the options of train: give both the same, so that they see the same data and layers. Several processes share the
rows. Run the same command again to continue an interrupted capture.
"""

from collections.abc import Sequence

from vlm_eagle.cli import INTERRUPTED, run_cli
from vlm_eagle.commands.train import default_config, ready_settings
from vlm_eagle.config import TrainCommand as Config
from vlm_eagle.errors import UserError


def start(argv: Sequence[str]) -> int:
    """Runs it, with the demo's settings where they hold."""
    return run_cli(main, Config, __doc__, default_config=default_config(argv), argv=argv)


def main(command: Config) -> int:
    """Captures training and held-out data into data.features; returns the exit code (130 after Ctrl-C)."""
    from rich.console import Console

    from data_recipes import demo
    from vlm_eagle.target.load import read_config
    from vlm_eagle.training.capture import capture
    from vlm_eagle.training.launch import make_accelerator

    config = command.train_config()
    if command.dry_run:
        raise UserError("A dry run is train's: it says how much disk the features of this configuration take.")
    if not config.data.features:
        raise UserError("Where to? Give a folder for the features, as in --data.features features.")
    accelerator = make_accelerator()
    console = Console(quiet=not accelerator.is_main_process, soft_wrap=True)
    if ready := ready_settings(read_config(config.target)):
        console.print(ready)
    demo.resolve(config.data, accelerator, console)
    if not capture(config, accelerator, console):
        console.print("Interrupted. Run the same command to continue.")
        return INTERRUPTED
    return 0
