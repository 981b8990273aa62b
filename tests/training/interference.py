"""What happens to a process from within, at a moment that no clock decides. For `Script`, which hands it to the process."""

import os
import signal
import sys
import threading
from dataclasses import dataclass


@dataclass
class KilledAt:
    """Killed the `nth` time that a file is moved whose path holds `part`. What it was about to move is cut in half, as if it
    was still being written, when `is_torn`."""

    part: str
    nth: int = 1
    is_torn: bool = False

    def __call__(self) -> None:
        sys.addaudithook(self.look)

    def look(self, event: str, args: tuple) -> None:
        if event != "os.rename" or self.part not in str(args[0]):
            return
        self.nth -= 1
        if not self.nth:
            if self.is_torn:
                os.truncate(args[0], os.stat(args[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class HeldAfter:
    """An evaluation does not go on when it has kept so many prompts in its journal."""

    prompts: int

    def __call__(self) -> None:
        from vlm_eagle.evaluation.scores.journal import EvaluationJournal

        record, hold = EvaluationJournal.record, threading.Event()

        def record_and_hold(journal, key, outcome):
            record(journal, key, outcome)
            self.prompts -= 1
            if not self.prompts:
                hold.wait()

        EvaluationJournal.record = record_and_hold
