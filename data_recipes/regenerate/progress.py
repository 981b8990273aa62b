"""What a run shows while it goes: a bar with rate and time left, or a line now and then where there is no terminal."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_recipes.regenerate.dialogue import Outcome

_SECONDS_BETWEEN_LINES = 30.0


class RegenerateProgress:
    """Context manager around a run. `conversations`, `tokens` and `seconds` count what this process did."""

    def __init__(self, console: Console, total: int, done: int):
        self.console, self.total, self.done, self.failed = console, total, done, 0
        self.conversations = self.tokens = 0
        self.started = self.said = time.monotonic()
        self.bar = Progress(
            TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn(),
            TextColumn("left:"), TimeRemainingColumn(elapsed_when_finished=False), console=console,
            disable=not console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> "RegenerateProgress":
        self.bar.start()
        self.task = self.bar.add_task("answers", total=self.total, completed=self.done, line="")
        self.started = self.said = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def seconds(self) -> float:
        """Since the run began to ask."""
        return time.monotonic() - self.started

    def finished(self, outcome: Outcome) -> None:
        """One more conversation is done with."""
        self.conversations += 1
        self.failed += not outcome.is_kept
        self.tokens += outcome.written
        completed, rate = self.done + self.conversations, self.conversations / max(self.seconds, 1e-9)
        line = f"{rate:.1f}/s  {self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s"
        line += f"  {self.failed} failed" if self.failed else ""
        self.bar.update(self.task, completed=completed, line=line)
        if not self.console.is_terminal and time.monotonic() - self.said > _SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            left = timedelta(seconds=round((self.total - completed) / rate))
            self.console.print(f"{completed}/{self.total}  {line}  left: {left}")
