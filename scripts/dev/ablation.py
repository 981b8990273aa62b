"""What each choice of the training recipe is worth: equal data, steps and seeds, one choice changed at a time.

    python scripts/dev/ablation.py
    python scripts/dev/ablation.py --arms 'exact, AdamW' 'exact, Muon' --seeds 0 1 2

Features are captured once and every arm trains from them. "baseline" is the recipe of the trainers in use: a loss mask that is
two positions late, so that the positions which decoding starts with learn nothing and those of the next user's header do, and a
loss divided by all tokens, prompt and image included. Acceptance lengths are measured by decoding held-out prompts with a chain
of 8 draft tokens.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from measurements import show_rows, write_results
from rich.console import Console

from data_recipes import demo
from vlm_eagle.cli import run_cli
from vlm_eagle.config import DataConfig, DraftConfig, OptimConfig, TrainConfig
from vlm_eagle.errors import UserError


@dataclass(frozen=True)
class Arm:
    """A recipe. `is_baseline`: the late mask and the division by all tokens."""

    is_baseline: bool = False
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="adamw", lr=3e-3))
    draft: dict[str, Any] = field(default_factory=dict)


_MUON, _NORMS, _LK = OptimConfig(), {"fc_norm": True, "norm_output": True}, {"loss": "lk_lambda"}
ARMS = {
    "baseline, AdamW 1e-3": Arm(is_baseline=True, optim=OptimConfig(optimizer="adamw", lr=1e-3)),
    "baseline, AdamW 3e-3": Arm(is_baseline=True),
    "exact, AdamW": Arm(),
    "exact, AdamW, LK": Arm(draft=_LK),
    "exact, AdamW, 3.1 norms": Arm(draft=_NORMS),
    "exact, Muon": Arm(optim=_MUON),
    "exact, Muon, LK": Arm(optim=_MUON, draft=_LK),
    "exact, Muon, 3.1 norms": Arm(optim=_MUON, draft=_NORMS),
    "exact, Muon, 3.1 norms, LK": Arm(optim=_MUON, draft={**_NORMS, **_LK}),
}


@dataclass(kw_only=True)
class AblationConfig:
    """What to compare, on the demo target and its data.

    Attributes:
        arms: names of recipes; none for all.
        seeds: of initial weights and data order; one run each.
        epochs: passes over the data.
        limit: held-out prompts per benchmark.
        out: folder for features, drafts and results; finished parts are kept.
    """

    arms: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    epochs: float = 2.25
    limit: int = 8
    out: str = "outputs/ablation"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.arms if name not in ARMS]:
            raise UserError(f"No such arm: {'; '.join(unknown)}. There are: {'; '.join(ARMS)}.")
        if not self.seeds or self.limit < 1:
            raise UserError("Give at least one seed, and a limit of at least 1.")


def main(config: AblationConfig) -> None:
    """Trains and scores every arm with every seed, then prints the table."""
    from arms import score, train

    from vlm_eagle.target.load import load_target
    from vlm_eagle.training.launch import make_accelerator

    console, accelerator = Console(), make_accelerator()
    folder = demo.make(console=console)
    target = load_target("demo", dtype="float32", device=accelerator.device)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in config.seeds:
        for name in config.arms or ARMS:
            run = _configure(config, folder, name, seed)
            train(run, ARMS[name].is_baseline, accelerator)
            results.setdefault(name, []).append(score(target, Path(str(run.out)) / "draft", config.limit))
            console.print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in results[name][-1].items()))
            write_results(Path(config.out) / "ablation.json", config, arms=results)
    show_rows("Acceptance length, chain of 8 draft tokens", [*_rows(results)])


def _configure(config: AblationConfig, folder: Path, name: str, seed: int) -> TrainConfig:
    arm, out = ARMS[name], Path(config.out)
    data = DataConfig(
        train=[str(folder / "train.jsonl")], eval=[str(folder / "held_out.jsonl")], max_length=512, num_workers=0,
        features=str(out / ("late" if arm.is_baseline else "exact")),
    )  # fmt: skip
    label = name.replace(", ", "-").replace(" ", "-")
    return TrainConfig(
        target_dtype="float32", out=str(out / f"{label}-{seed}"), data=data, optim=replace(arm.optim), seed=seed,
        draft=DraftConfig(vocab_size=512, dtype="float32", **arm.draft), epochs=config.epochs, eval_steps=10_000,
        save_steps=10_000, save_total_limit=1,
    )  # fmt: skip


def _rows(results: dict[str, list[dict[str, float]]]) -> Iterator[dict[str, str]]:
    """Mean and standard deviation over the seeds, and the gain on the best baseline."""
    greedy = {name: mean(row["T=0 all"] for row in rows) for name, rows in results.items()}
    best = max((value for name, value in greedy.items() if ARMS[name].is_baseline), default=None)
    for name, rows in results.items():
        values = {column: [row[column] for row in rows] for column in rows[0]}
        cells = {key: f"{mean(v):.2f}" + (f" ±{stdev(v):.2f}" if len(v) > 1 else "") for key, v in values.items()}
        yield {"recipe": name, **cells, "T=0 gain": f"{greedy[name] / best - 1:+.0%}" if best else ""}


if __name__ == "__main__":
    sys.exit(run_cli(main, AblationConfig, __doc__))
