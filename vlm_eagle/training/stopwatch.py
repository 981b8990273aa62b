"""Time spent in parts of a step, without stopping the GPU to ask."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the seconds inside `running()`. On CUDA they are the device's, between two events, read when asked for."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.spans: list[tuple] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what is inside."""
        began = self._mark()
        yield
        self.spans.append((began, self._mark()))

    def seconds(self) -> float:
        """The sum since the last call."""
        spans, self.spans = self.spans, []
        if not self.cuda:
            return sum(end - began for began, end in spans)
        torch.cuda.synchronize()
        return sum(began.elapsed_time(end) for began, end in spans) / 1e3

    def _mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
