"""How much of a large product exists at one time: attention scores and logits are made in chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChunkSizes:
    """Limits of a chunk.

    Attributes:
        queries: queries whose attention scores exist at one time.
        logits: logits of both models that exist at one time; a handful of tensors have this many elements.
        positions: supervised positions whose logits exist at one time.
    """

    queries: int
    logits: int
    positions: int


CPU = ChunkSizes(queries=64, logits=2**23, positions=64)  # fits a cache
GPU = ChunkSizes(queries=512, logits=2**25, positions=2**25)  # fills a GPU
_chosen: ContextVar[ChunkSizes | None] = ContextVar("chunk_sizes", default=None)


def chunk_sizes(device: torch.device) -> ChunkSizes:
    """The limits for tensors on `device`."""
    return _chosen.get() or (GPU if device.type == "cuda" else CPU)


@contextmanager
def using_chunk_sizes(sizes: ChunkSizes) -> Iterator[None]:
    """Inside, these limits hold on every device."""
    token = _chosen.set(sizes)
    try:
        yield
    finally:
        _chosen.reset(token)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, for matrices or batches of them; without a temporary product where the dtypes are equal."""
    if a.dtype == total.dtype:
        add = torch.addmm if total.ndim == 2 else torch.baddbmm
        add(total, a, b, out=total)
    else:
        total += a @ b
