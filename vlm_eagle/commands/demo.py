"""The demo: trains a draft for the demo target, on images and text, and scores it. Two CPU cores, minutes, nothing downloaded.

    vlm-eagle demo
    vlm-eagle demo --text-only            # a tiny Qwen3 instead of the Qwen3-VL

It runs `vlm-eagle train` and `vlm-eagle score`, which continue after an interruption when the command is repeated.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vlm_eagle.provenance import check_output


@dataclass(kw_only=True)
class Config:
    """Where to, and how much.

    Attributes:
        out: folder of the run; none for outputs/demo, or outputs/demo-text.
        text_only: make a text-only target first, in seconds, and train for that.
        max_steps: stop training after this many optimizer steps; none for all.
        limit: prompts per benchmark; none for 16.
    """

    out: str | None = None
    text_only: bool = False
    max_steps: int | None = None
    limit: int | None = None


def main(config: Config) -> int:
    """Runs both; the exit code of the first that fails."""
    out = Path(config.out or ("outputs/demo-text" if config.text_only else "outputs/demo"))
    check_output(out, folder=True)
    target, settings = ["--target", "demo"], "demo"
    if config.text_only:
        target, settings = ["--target", str(make_target(out / "target"))], "demo_text"
    train = ["train", "--config", settings, *target, "--out", out, *_given("--max-steps", config.max_steps)]
    score = ["score", *target, "--draft", out / "draft", "--draft-tokens", 4, 8, "--json", out / "acc_length.json"]
    return _run(train) or _run([*score, *_given("--limit", config.limit)])


def make_target(folder: Path) -> Path:
    """Makes the text-only target, unless it exists."""
    from vlm_eagle.demo.text_target import make_text_target
    from vlm_eagle.target.load import DEMO_TARGET

    if not (folder / "config.json").is_file():
        make_text_target(DEMO_TARGET, folder)
    return folder


def _given(option: str, value: int | None) -> list[object]:
    return [] if value is None else [option, value]


def _run(words: list[object]) -> int:
    """Runs another command in its own process, so that nothing of the first stays in memory; the exit code."""
    command = list(map(str, words))
    print(f"vlm-eagle {' '.join(command)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "vlm_eagle", *command])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the process too, which writes what it has and ends
            continue
