"""Replays a whole cycle as one CUDA graph, so that a GPU does not wait for Python between hundreds of small kernels.

A graph is bound to tensors and shapes, so the part of the cache that attention looks at is rounded up to a multiple of `BUCKET`
and each multiple is recorded once. Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

import logging
from collections.abc import Callable, Sequence

import torch

logger = logging.getLogger(__name__)
BUCKET = 256
Action = Callable[[], None]


def cuda_graph(action: Action, reset: Action) -> Action:
    """Records what `action` launches; the result launches it again. Warms up on a side stream, as recording requires."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            action()
            reset()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


class RecordedCycles:
    """Recordings of one decoder's cycle by bucket. If recording fails, all later cycles run without."""

    def __init__(self, record: Callable[[Action, Action], Action] = cuda_graph):
        self.record, self.usable = record, True
        self.recordings: dict[int, Action] = {}

    def clear(self) -> None:
        """Drops all recordings, whose tensors have been replaced."""
        self.recordings = {}

    def run(self, cycle: Callable[[int], None], max_length: int, state: Sequence[torch.Tensor]) -> None:
        """One `cycle(max_length)`: replayed if it was recorded before, recorded first if possible.

        Args:
            cycle: takes an upper bound of the committed entries and changes `state` in place.
            max_length: the bound as the host knows it.
            state: restored after the warm-up, which writes into caches only behind the committed entries.
        """
        bucket = -(-max_length // BUCKET) * BUCKET
        if self.usable and bucket not in self.recordings:
            before = [tensor.clone() for tensor in state]
            reset = lambda: _restore(state, before)
            try:
                self.recordings[bucket] = self.record(lambda: cycle(bucket), reset)
            except RuntimeError as error:
                logger.warning("Cycles are not recorded as graphs and run slower: %s", error)
                self.usable = False
            reset()
        if self.usable:
            self.recordings[bucket]()
        else:
            cycle(max_length)


def _restore(state: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> None:
    for tensor, old in zip(state, before, strict=True):
        tensor.copy_(old)
