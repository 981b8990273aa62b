"""What a training run shows and writes while it goes: a progress bar, `log.jsonl`, and a tracker through accelerate."""

import json
import logging
import math
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlm_eagle.training.metrics import StepAcceptance

logger = logging.getLogger(__name__)
_LINES = 10  # progress lines of a run whose output is no terminal


class TrainProgress:
    """Context manager around the training loop; silent on all ranks but the first."""

    def __init__(self, console: Console, steps: int, start: int, log: Path, accelerator: Accelerator):
        self.console, self.steps, self.start, self.accelerator = console, steps, start, accelerator
        self.active = accelerator.is_main_process
        self.log = log
        self.bar = Progress(
            TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"), TimeRemainingColumn(),
            console=console, disable=not (self.active and console.is_terminal),
        )  # fmt: skip

    def __enter__(self) -> "TrainProgress":
        if self.active:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            kept = [line for line in self._old_lines() if line.get("step", 0) <= self.start]
            scratch = self.log.with_name(f".{self.log.name}.tmp")
            scratch.write_text("".join(json.dumps(line) + "\n" for line in kept))
            scratch.replace(self.log)
        self.bar.start()
        self.task = self.bar.add_task("train", total=self.steps, completed=self.start, line="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, step: int, line: dict, seconds: float) -> None:
        """One optimizer step. `line` holds loss, acceptance, gradient_norm, lr, tokens, supervised,
        target_seconds (of `seconds`, spent on the target's forward, or on reading its features)."""
        acceptance: StepAcceptance = line["acceptance"]
        row = {
            "step": step,
            "loss": round(line["loss"], 5),
            "simulated_acceptance_length": round(acceptance.simulated_acceptance_length, 4),
            "acceptance": [round(float(a), 4) for a in acceptance.by_step],
            "tokens_per_second": round(line["tokens"] / seconds, 1),
            "supervised_fraction": round(line["supervised"] / max(line["tokens"], 1), 4),
            "target_share": round(line["target_seconds"] / seconds, 4),
            "gradient_norm": round(line["gradient_norm"], 4),
            "lr": line["lr"],
        }
        text = (
            f"loss {row['loss']:.3f}  acceptance length {row['simulated_acceptance_length']:.2f}  "
            f"{row['tokens_per_second']:,.0f} tokens/s"
        )
        self.bar.update(self.task, completed=step, line=text)
        self._write(row)
        every = max(self.steps // _LINES, 1)
        if self.active and not self.console.is_terminal and (step % every == 0 or step == self.start + 1):
            logger.info(f"step {step}/{self.steps}  {text}")

    def note(self, step: int, text: str, loss: float, acceptance: StepAcceptance) -> None:
        """A held-out evaluation."""
        if self.active:
            logger.info(text)
        self._write(
            {
                "step": step,
                "eval_loss": round(loss, 5),
                "eval_simulated_acceptance_length": round(acceptance.simulated_acceptance_length, 4),
                "eval_acceptance": [round(float(a), 4) for a in acceptance.by_step],
            }
        )

    def _write(self, row: dict) -> None:
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}  # JSON has no NaN
        if self.active:
            with self.log.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        numbers = {k: v for k, v in row.items() if isinstance(v, (int, float)) and k != "step"}
        self.accelerator.log(numbers, step=row["step"])

    def _old_lines(self) -> list[dict]:
        if not self.log.is_file() or self.start == 0:
            return []
        lines = []
        for line in self.log.read_bytes().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the run was killed while it wrote this line
                continue
        return lines


def evaluation_line(step: int, loss: float, acceptance: StepAcceptance) -> str:
    """`held out at step N: ...`, with acceptance by step."""
    by_step = " ".join(f"{float(a):.2f}" for a in acceptance.by_step)
    return (
        f"held out at step {step}: loss {loss:.3f}, simulated acceptance length "
        f"{acceptance.simulated_acceptance_length:.2f}, acceptance by step {by_step}"
    )
