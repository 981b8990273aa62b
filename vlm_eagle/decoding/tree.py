"""The draft tree: what the target verifies in one forward pass. A chain is the tree with topk = 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.decoding.options import TreeShape

__all__ = ["DraftTree", "TreeShape"]


@dataclass(frozen=True)
class DraftTree:
    """B trees of N nodes each; parents come before their children, node 0 is the root.

    Attributes:
        tokens: (B, N) int64 target ids; tokens[:, 0] are the last committed tokens.
        parents: (B, N) int64, -1 at the root.
        depths: (B, N) int64, 0 at the root.
        ancestors: (B, N, N) bool, [b, i, j] true iff j is i or an ancestor of i.
        depth: most levels below a root.
        scores: (B, N) cumulative draft log-probability of a dynamic tree's nodes, 0 at the root; None otherwise.
        proposals: (B, N - 1, W) the distributions the tokens of a chain were drawn from; None if they are argmaxes.
    """

    tokens: Tensor
    parents: Tensor
    depths: Tensor
    ancestors: Tensor
    depth: int
    scores: Tensor | None = None
    proposals: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[1]

    @classmethod
    def from_parents(cls, tokens: Tensor, parents: Tensor, depth: int, **extra: Tensor | None) -> "DraftTree":
        """Depths and ancestors follow from `parents` (B, N), in log2(depth) matrix products: squaring (I + P), where P holds
        who is whose parent, doubles the reach upwards."""
        n = tokens.shape[1]
        reach = torch.eye(n, device=tokens.device) + (parents[:, :, None] == torch.arange(n, device=tokens.device))
        for _ in range(math.ceil(math.log2(max(depth, 1)))):
            reach = (reach @ reach).clamp_max_(1)
        ancestors = reach > 0
        return cls(tokens, parents, ancestors.sum(-1) - 1, ancestors, depth, **extra)
