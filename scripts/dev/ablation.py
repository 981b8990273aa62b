"""What each choice of the training recipe is worth: equal data, steps and seeds, one choice changed at a time.

    python scripts/dev/ablation.py
    python scripts/dev/ablation.py --arms 'exact, AdamW' 'exact, Muon' --seeds 0 1 2

Features are captured once and every arm trains from them. "peers" is the recipe of the trainers in use: a loss mask that is two
positions late, so that the rows which decoding starts with learn nothing and rows of the next user's header do, and a loss
divided by all tokens, prompt and image included. Acceptance lengths are measured by decoding held-out prompts with a chain
of 8 draft tokens.
"""

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from data_recipes import demo
from vlm_eagle.cli import run_cli
from vlm_eagle.config import DataConfig, DraftConfig, OptimConfig, TrainConfig
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, write_json


@dataclass(frozen=True)
class Arm:
    """A recipe. `peers`: the late mask and the division by all tokens."""

    peers: bool = False
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="adamw", lr=3e-3))
    draft: dict[str, Any] = field(default_factory=dict)


_MUON, _NORMS, _LK = OptimConfig(), {"fc_norm": True, "norm_output": True}, {"loss": "lk_lambda"}
ARMS = {
    "peers, AdamW 1e-3": Arm(peers=True, optim=OptimConfig(optimizer="adamw", lr=1e-3)),
    "peers, AdamW 3e-3": Arm(peers=True),
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
        out: folder for features, drafts and results; what is there is not done again.
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

    console, out = Console(), Path(config.out)
    accelerator = make_accelerator()
    folder = demo.make(console=console)
    target = load_target("demo", dtype="float32", device=accelerator.device)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in config.seeds:
        for name in config.arms or ARMS:
            run = _configure(config, folder, name, seed)
            train(run, ARMS[name].peers, accelerator)
            results.setdefault(name, []).append(score(target, Path(run.out) / "draft", config.limit))
            console.print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in results[name][-1].items()))
            write_json(out / "ablation.json", {"run": describe_run(config=asdict(config)), "arms": results})
    console.print(_table(results))


def _configure(config: AblationConfig, folder: Path, name: str, seed: int) -> TrainConfig:
    arm, out = ARMS[name], Path(config.out)
    data = DataConfig(
        train=[str(folder / "train.jsonl")], eval=[str(folder / "held_out.jsonl")], max_length=512, num_workers=0,
        features=str(out / ("late" if arm.peers else "exact")),
    )  # fmt: skip
    label = name.replace(", ", "-").replace(" ", "-")
    return TrainConfig(
        target_dtype="float32", out=str(out / f"{label}-{seed}"), data=data, optim=replace(arm.optim), seed=seed,
        draft=DraftConfig(vocab_size=512, dtype="float32", **arm.draft), epochs=config.epochs, eval_steps=10_000,
        save_steps=10_000, save_total_limit=1,
    )  # fmt: skip


def _table(results: dict[str, list[dict[str, float]]]) -> Table:
    table = Table("Recipe", title="Acceptance length, chain of 8 draft tokens (mean and standard deviation over seeds)")
    columns = [f"{t} {kind}" for t in ("T=0", "T=1") for kind in ("images", "text", "all")]
    for name in columns:
        table.add_column(name, justify="right")
    base = max((mean(r["T=0 all"] for r in rows) for name, rows in results.items() if ARMS[name].peers), default=None)
    table.add_column("T=0 against\nbest peers", justify="right")
    for name, rows in results.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            cells.append(f"{mean(values):.2f}" + (f" ±{stdev(values):.2f}" if len(values) > 1 else ""))
        gain = mean(row["T=0 all"] for row in rows) / base - 1 if base else None
        table.add_row(name, *cells, "" if gain is None else f"{gain:+.0%}")
    return table


if __name__ == "__main__":
    sys.exit(run_cli(main, AblationConfig, __doc__))
