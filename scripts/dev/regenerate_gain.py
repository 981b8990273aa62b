"""What the target's own answers are worth: a draft trained on reference answers, one on the same prompts answered anew.

    python scripts/dev/regenerate_gain.py

The prompts are the demo recipe's; their reference answers come from the generators that the demo target itself was trained on.
Everything else is equal: prompts, order, seed, steps. Both drafts are scored on the demo benchmarks.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data_recipes.demo import SIZES
from vlm_eagle.cli import run_cli
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import TRAIN_START, write_jsonl
from vlm_eagle.errors import UserError

ROOT = Path(__file__).parents[2]


@dataclass(kw_only=True)
class GainConfig:
    """How much of it.

    Attributes:
        out: folder of everything this writes.
        share: of the demo recipe's prompts of each task.
        epochs: of both trainings.
        draft_tokens: nodes verified per target forward in scoring, the root included.
        limit: benchmark prompts per task; none for 16.
    """

    out: str = "outputs/regenerate-gain"
    share: float = 1.0
    epochs: float = 1.0
    draft_tokens: int = 8
    limit: int | None = None


def main(config: GainConfig) -> None:
    """Makes the data, trains, and shows the scores side by side."""
    out, console = Path(config.out), Console()
    prompts = [
        mix.sample(task, TRAIN_START + i) for task, count in SIZES.train.items() for i in range(round(count * config.share))
    ]
    write_jsonl(out / "reference" / "all.jsonl", prompts)
    words = ("--data", out / "reference" / "all.jsonl", "--out", out / "regenerated", "--target", "demo", "--batch-size", 64)
    _run(console, "-m", "data_recipes.regenerate", *words, "--max-new-tokens", SIZES.max_new_tokens)
    kept = {json.loads(line)["id"] for line in (out / "regenerated" / "train.jsonl").read_text().splitlines()}
    write_jsonl(out / "reference" / "train.jsonl", [prompt for prompt in prompts if prompt.id in kept])
    names = ("reference", "regenerated")
    for name in names:
        words = ("--data.train", out / name / "train.jsonl", "--out", out / name / "run", "--epochs", config.epochs)
        _run(console, ROOT / "scripts" / "train_vlm.py", *words)
    limit = () if config.limit is None else ("--limit", config.limit)
    words = ("--draft", *(out / name / "run" / "draft" for name in names), "--draft-tokens", config.draft_tokens)
    _run(console, ROOT / "eval" / "acc_length.py", *words, "--json", out / "acc_length.json", *limit)


def _run(console: Console, *words: object) -> None:
    """Runs a command of this repository; what it says goes to the terminal."""
    console.print(" ".join(map(str, ("python", *words))), style="dim", soft_wrap=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = subprocess.run([sys.executable, *map(str, words)], env=environment, check=False).returncode
    if code:
        raise UserError(f"The command above ended with exit code {code}.")


if __name__ == "__main__":
    sys.exit(run_cli(main, GainConfig, __doc__))
