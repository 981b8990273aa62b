"""A whole training run, from its configuration to the draft: what scripts and the library's `train` start."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_eagle.config import DataConfig, TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.console import Console

Resolve = Callable[[DataConfig, "Accelerator", "Console"], None]


@dataclass(frozen=True)
class TrainResult:
    """What training left.

    Attributes:
        out: the run's folder: checkpoints/, run.json, log.jsonl, curve.png.
        draft: the folder of the best draft, for `load_pair` and the serving engines.
        acceptance_length: simulated, of that draft on the held-out data; None where it was not measured.
        finished: false after Ctrl-C; the same call then continues.
        skipped: samples that were left out, by reason.
    """

    out: Path
    draft: Path
    acceptance_length: float | None
    finished: bool
    skipped: dict[str, int]


def run_training(config: TrainConfig, resolve: Resolve, *, quiet: bool = False) -> TrainResult:
    """Builds the run and trains, under `accelerate launch` or in a single process.

    Args:
        config: the run.
        resolve: puts data files in place of the word `demo`.
        quiet: print nothing. Otherwise the main process shows progress on stdout.

    Raises:
        UserError: a setting, a target or data that cannot be used.
    """
    from accelerate.utils import set_seed
    from rich.console import Console

    from vlm_eagle.training.launch import make_accelerator
    from vlm_eagle.training.setup import build_setup
    from vlm_eagle.training.trainer import Trainer

    config = deepcopy(config)  # the names of demo data are filled in
    accelerator = make_accelerator(config.tracker, config.out)
    set_seed(config.seed)
    console = Console(quiet=quiet or not accelerator.is_main_process, soft_wrap=True)  # a line of a log stays one line
    if not config.data.features or config.data.capture_during_training:  # a store knows its data
        resolve(config.data, accelerator, console)
    setup = build_setup(config, accelerator)
    accelerator.init_trackers("vlm_eagle")
    console.print(
        f"{len(setup.lengths):,} samples, draft of {sum(p.numel() for p in setup.draft.parameters()):,} parameters, "
        f"aux layer ids {setup.target.layer_ids}"
    )
    trainer = Trainer(config, setup, accelerator, console)
    console.print(setup.summary(trainer.steps, trainer.all_steps, config.epochs))
    finished = trainer.train()
    if skipped := trainer.all_skipped():
        console.print("Skipped samples: " + ", ".join(f"{reason} {n}" for reason, n in skipped.most_common()))
    if finished:
        scored = f"simulated acceptance length {trainer.best:.2f}" if setup.eval else "no held-out data to score it"
        console.print(f"Draft: {trainer.out / 'draft'} ({scored})")
    accelerator.end_training()
    return TrainResult(trainer.out, trainer.out / "draft", trainer.best or None, finished, dict(skipped))
