"""The attention mask of a token tree: what new tokens see of a cache in which they stand behind the committed entries."""

import torch
from torch import Tensor


def tree_mask(lengths: Tensor, block: Tensor, kv_len: int) -> Tensor:
    """(B, R, kv_len) bool, true where one of R new tokens sees a cache entry.

    Args:
        lengths: (B,) int64, committed entries per sequence; all of them are seen.
        block: (B, R, M) bool, which of the M entries behind the committed ones are seen.
        kv_len: entries looked at; those neither committed nor in the block are stale and not seen.
    """
    behind = torch.arange(kv_len, device=lengths.device) - lengths[:, None]  # (B, kv_len), 0 at the block's first entry
    m = block.shape[2]
    index = behind.clamp(0, m - 1)[:, None].expand(-1, block.shape[1], -1)
    return (behind < 0)[:, None] | (block.gather(2, index) & (behind < m)[:, None])


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, R, kv_len), what sdpa adds to its scores, from what is seen (B, R, kv_len)."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
