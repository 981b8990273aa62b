"""What the target's own answers are worth: a draft trained on reference answers, one on the target's own to the same prompts.

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

from data_recipes.demo import SIZES
from vlm_eagle.cli import run_cli
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import TRAIN_START, write_jsonl
from vlm_eagle.errors import UserError


@dataclass(kw_only=True)
class GainConfig:
    """How much of it.

    Attributes:
        out: folder of everything this writes.
        share: of the demo recipe's prompts of each task.
        epochs: of both trainings.
        draft_tokens: nodes verified per target forward in scoring, the root included.
        limit: benchmark prompts per task.
    """

    out: str = "outputs/regenerate-gain"
    share: float = 1.0
    epochs: float = 1.0
    draft_tokens: int = 8
    limit: int = 16


def main(config: GainConfig) -> None:
    """Makes the data, trains, and shows the scores side by side."""
    out = Path(config.out)
    reference, regenerated = out / "reference", out / "regenerated"
    prompts = [
        mix.sample(task, TRAIN_START + i) for task, count in SIZES.train.items() for i in range(round(count * config.share))
    ]
    write_jsonl(reference / "all.jsonl", prompts)
    words = ("--data", reference / "all.jsonl", "--out", regenerated, "--target", "demo", "--batch-size", 64)
    _run("regenerate", *words, "--max-new-tokens", SIZES.max_new_tokens)
    kept = {json.loads(line)["id"] for line in (regenerated / "train.jsonl").read_text().splitlines()}
    write_jsonl(reference / "train.jsonl", [prompt for prompt in prompts if prompt.id in kept])
    for folder in (reference, regenerated):
        _run("train", "--data.train", folder / "train.jsonl", "--out", folder / "run", "--epochs", config.epochs)
    drafts = (reference / "run" / "draft", regenerated / "run" / "draft")
    words = ("--draft", *drafts, "--draft-tokens", config.draft_tokens, "--limit", config.limit)
    _run("score", *words, "--json", out / "acc_length.json")


def _run(*words: object) -> None:
    command = list(map(str, words))
    print("vlm-eagle", *command, flush=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    code = subprocess.run([sys.executable, "-m", "vlm_eagle", *command], env=environment, check=False).returncode
    if code:
        raise UserError(f"The command above ended with exit code {code}.")


if __name__ == "__main__":
    sys.exit(run_cli(main, GainConfig, __doc__))
