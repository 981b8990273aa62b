"""Runs the target once over all data and keeps its hidden states on disk, so that training never loads its layers.

    vlm-eagle capture --data.features features             # the embedded demo
    vlm-eagle train --data.features features
    accelerate launch --num_processes 8 -m vlm_eagle capture --config qwen3_vl_30b_a3b --data.features features ...

Takes the options of train: give both the same, so that they see the same data and layers. Several processes share the
rows. Run the same command again to continue an interrupted capture.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm_eagle.cli import CONFIGS, find_config, option, run_cli
from vlm_eagle.commands.train import default_config
from vlm_eagle.config import TrainCommand as Config
from vlm_eagle.errors import UserError


def start(argv: Sequence[str]) -> int:
    """Runs it, with the demo's settings where they hold."""
    return run_cli(main, Config, __doc__, default_config=default_config(argv), argv=argv)


def main(command: Config) -> int:
    """Captures training and held-out data into data.features; returns the exit code (130 after Ctrl-C)."""
    import torch
    from accelerate.utils import gather_object
    from rich.console import Console

    from data_recipes import demo
    from vlm_eagle.provenance import describe_run, write_json
    from vlm_eagle.target.load import read_config
    from vlm_eagle.training.feature_store import FeatureStore
    from vlm_eagle.training.launch import make_accelerator
    from vlm_eagle.training.ready import ready_line
    from vlm_eagle.training.setup import OnlineData

    config = command.train_config()
    if command.dry_run:
        raise UserError("A dry run is train's: it says how much disk the features of this configuration take.")
    if not config.data.features:
        raise UserError("Where to? Give a folder for the features, as in --data.features features.")
    accelerator = make_accelerator()
    console = Console(quiet=not accelerator.is_main_process, soft_wrap=True)
    if ready := ready_line(CONFIGS, read_config(config.target), find_config(option(sys.argv, "config"))):
        console.print(ready)
    demo.resolve(config.data, accelerator, console)
    stopping = _Interrupt(console)
    data = OnlineData(config, accelerator)
    for name in ("train", "eval") if data.eval else ("train",):
        folder, source = Path(config.data.features) / name, data.capturing_source(name)
        rows = range(accelerator.process_index, len(source.dataset), accelerator.num_processes)
        with _Progress(console, name, len(rows), len(set(rows) & source.writer.known)) as progress:
            finished = source.capture(rows, config.batch_size, config.data.num_workers, progress.done, lambda: stopping.asked)
        if not all(gather_object([finished])):
            console.print("Interrupted. Run the same command to continue.")
            return 130
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            store = FeatureStore(folder)
            skipped = store.skipped
            details = describe_run(samples=len(store) - sum(skipped.values()), skipped=skipped, bytes=store.nbytes)
            write_json(folder / "run.json", details)
            console.print(
                f"{folder}: {details['samples']:,} samples, {store.nbytes / 2**20:,.0f} MiB"
                + (f", skipped {skipped}" if skipped else "")
            )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


class _Interrupt:
    """Remembers Ctrl-C, so that what was computed is written first."""

    def __init__(self, console):
        self.asked, self.console = False, console
        signal.signal(signal.SIGINT, self)

    def __call__(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.console.print("Stopping after this batch. Press Ctrl-C again to stop at once.")


class _Progress:
    """A bar with samples and tokens per second."""

    def __init__(self, console, name: str, total: int, known: int):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=total, completed=known, rate="")
        self.tokens = 0

    def __enter__(self) -> "_Progress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def done(self, samples: int, tokens: int) -> None:
        self.tokens += tokens
        seconds = self.bar.tasks[self.task].elapsed or 1.0
        self.bar.update(self.task, advance=samples, rate=f"{self.tokens / seconds:,.0f} tokens/s")
