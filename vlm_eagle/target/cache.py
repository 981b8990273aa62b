"""The target's key-value cache, which a tree verification may leave with any accepted path."""

import torch
from torch import Tensor
from transformers import DynamicCache


def keep_path(cache: DynamicCache, prefix: int, path: Tensor) -> None:
    """Drops everything a verification appended except the accepted nodes.

    Args:
        cache: holds `prefix` committed entries followed by the N entries of the tree's nodes.
        prefix: number of committed entries before the verification.
        path: (a + 1,) int64, the accepted nodes from the root (node 0) on, ascending.
    """
    keep = prefix + path
    for layer in cache.layers:
        layer.keys = torch.cat([layer.keys[:, :, :prefix], layer.keys.index_select(2, keep)], dim=2)
        layer.values = torch.cat([layer.values[:, :, :prefix], layer.values.index_select(2, keep)], dim=2)
