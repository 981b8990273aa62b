"""A whole capture: the hidden states of all data, written to a feature store by one or several processes."""

import signal
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlm_eagle.config import TrainConfig
from vlm_eagle.provenance import describe_run, write_json
from vlm_eagle.training.feature_store import FeatureStore
from vlm_eagle.training.setup import OnlineData
from vlm_eagle.training.sources import CapturingSource


def capture(config: TrainConfig, accelerator: Accelerator, console: Console) -> bool:
    """Captures training and held-out data, whose files are named, into `data.features`; False after Ctrl-C. What was captured
    before is kept.

    Raises:
        UserError: a setting, a target or data that cannot be used.
    """
    interrupt = _Interrupt(console)
    data = OnlineData(config, accelerator)
    for name in ("train", "eval") if data.eval else ("train",):
        folder, source = Path(config.data.features or "") / name, data.capturing_source(name)
        rows = range(accelerator.process_index, len(source.dataset), accelerator.num_processes)
        finished = _capture(source, name, rows, config, console, interrupt)
        if not all(gather_object([finished])):
            return False
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _describe(folder, console)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return True


def _capture(
    source: CapturingSource, name: str, rows: range, config: TrainConfig, console: Console, interrupt: "_Interrupt"
) -> bool:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=len(rows), completed=len(set(rows) & source.writer.known), rate="")
        total = 0

        def advance(samples: int, tokens: int) -> None:
            nonlocal total
            total += tokens
            bar.update(task, advance=samples, rate=f"{total / (bar.tasks[task].elapsed or 1.0):,.0f} tokens/s")

        return source.capture(rows, config.batch_size, config.data.num_workers, advance, lambda: interrupt.requested)


def _describe(folder: Path, console: Console) -> None:
    store = FeatureStore(folder)
    skipped, samples = store.skipped, len(store) - sum(store.skipped.values())
    write_json(folder / "run.json", describe_run(samples=samples, skipped=skipped, bytes=store.nbytes))
    note = f", skipped {skipped}" if skipped else ""
    console.print(f"{folder}: {samples:,} samples, {store.nbytes / 2**20:,.0f} MiB{note}")


class _Interrupt:
    """Remembers Ctrl-C, so that what was computed is written first."""

    def __init__(self, console: Console):
        self.requested, self.console = False, console
        signal.signal(signal.SIGINT, self)

    def __call__(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.console.print("Stopping after this batch. Press Ctrl-C again to stop at once.")
