"""What a run shows while it works: a bar with rate and time left, or a line now and then where there is no terminal."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_recipes.regenerate.dialogue import DialogueResult

_SECONDS_BETWEEN_LINES = 30.0


class RegenerateProgress:
    """Context manager around a run. `conversations`, `tokens` and `seconds` count what this process did."""

    def __init__(self, console: Console, total: int, done: int):
        self.console, self.total, self.done = console, total, done
        self.conversations = self.tokens = self.failed = 0
        self.started = self.last_line = time.monotonic()
        self.bar = Progress(
            TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn(),
            TextColumn("left:"), TimeRemainingColumn(elapsed_when_finished=False), console=console,
            disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("answers", total=total, completed=done, line="")

    def __enter__(self) -> "RegenerateProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def seconds(self) -> float:
        """Since the run began to ask."""
        return time.monotonic() - self.started

    def finished(self, result: DialogueResult) -> None:
        """Counts one more conversation."""
        self.conversations += 1
        self.failed += not result.is_kept
        self.tokens += result.written
        completed, seconds = self.done + self.conversations, max(self.seconds, 1e-9)
        rate = self.conversations / seconds
        line = f"{rate:.1f}/s  {self.tokens / seconds:,.0f} tokens/s"
        line += f"  {self.failed} failed" if self.failed else ""
        self.bar.update(self.task, completed=completed, line=line)
        if not self.console.is_terminal and time.monotonic() - self.last_line > _SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            left = timedelta(seconds=round((self.total - completed) / rate))
            self.console.print(f"{completed}/{self.total}  {line}  left: {left}")
