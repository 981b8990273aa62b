"""How much memory a piece of work allocates at its peak, beyond what was there before."""

from collections.abc import Callable

import torch

from vlm_eagle.training.footprint import LiveBytes


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Bytes on `device`: from the allocator's counters on CUDA, else by counting the storages that are made (what a kernel
    allocates and frees again is not seen)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        work()
    return live.peak
