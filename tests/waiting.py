"""Tests wait for what happens, not for time to pass: on a busy machine everything happens, only later."""

import threading
import time
from collections.abc import Callable
from typing import Any

LIMIT = 600.0  # seconds that any wait may last. Only what hangs is ended by it.


def wait_for(what: str, happened: Callable[[], Any], process: Any = None) -> Any:
    """The first value of `happened()` that is true.

    Args:
        what: the event, for the message.
        happened: looks whether it has come.
        process: who is to bring it about, with `is_running` and `output`; not waited for when it has ended.

    Raises:
        AssertionError: the process ended without it, or `LIMIT` is over.
    """
    end = time.monotonic() + LIMIT
    while True:
        can_still = process is None or process.is_running  # read before the last look
        if value := happened():
            return value
        assert can_still, f"The process ended before this: {what}\n{process.output.read_text()}"
        assert time.monotonic() < end, f"Waited {LIMIT:.0f} s in vain for this: {what}"
        time.sleep(0.002)


class Clock:
    """Stands in for the module `time`: goes on when somebody sleeps, and only then. Not for several threads that sleep."""

    def __init__(self):
        self.now, self.alarms = 1000.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self.alarms and self.alarms[0][0] <= end:
            self.now, call = self.alarms.pop(0)
            call()
        self.now = end

    def at(self, seconds: float, call: Callable[[], Any]) -> None:
        """Calls it when so many seconds from now are over."""
        self.alarms = sorted([*self.alarms, (self.now + seconds, call)], key=lambda alarm: alarm[0])

    def condition(self) -> threading.Condition:
        """One on which nobody else can wake us: waiting is sleeping."""
        made = threading.Condition()
        made.wait = self.sleep
        return made
