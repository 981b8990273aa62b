"""The draft tree, which the target verifies in one forward, and the plan by which a fixed tree grows. A chain is the tree with
topk = 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.decoding.options import TreeShape

__all__ = ["DraftTree", "FixedPlan", "TreeShape"]


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
    def from_parents(
        cls, tokens: Tensor, parents: Tensor, depth: int, scores: Tensor | None = None, proposals: Tensor | None = None
    ) -> "DraftTree":
        """Depths and ancestors follow from `parents` (B, N), in log2(depth) matrix products: squaring (I + P), where P holds
        who is whose parent, doubles the reach upwards."""
        n = tokens.shape[1]
        reach = torch.eye(n, device=tokens.device) + (parents[:, :, None] == torch.arange(n, device=tokens.device))
        for _ in range(math.ceil(math.log2(max(depth, 1)))):
            reach = (reach @ reach).clamp_max_(1)
        ancestors = reach > 0
        return cls(tokens, parents, ancestors.sum(-1) - 1, ancestors, depth, scores, proposals)


@dataclass(frozen=True)
class LevelPlan:
    """How one level of a fixed tree is made from the nodes expanded in the level before.

    Attributes:
        width: best tokens looked at per expanded node.
        chosen: (nodes,) int64, which of expanded nodes x width become this level's nodes.
        expanded: (F,) int64, which of these have children.
        parent: (F,) int64, the expanded node of the level before that is each one's parent.
    """

    width: int
    chosen: Tensor
    expanded: Tensor
    parent: Tensor


@dataclass(frozen=True)
class FixedPlan:
    """All levels, and the tree they make (B = 1, tokens zero)."""

    levels: tuple[LevelPlan, ...]
    tree: DraftTree

    @classmethod
    def of(cls, shape: TreeShape, device: torch.device) -> "FixedPlan":
        """The plan of a shape with fixed `paths` (a chain has them too)."""
        expanded: list[tuple[int, ...]] = [()]
        paths = shape.paths or ()
        inner, levels = {path[:-1] for path in paths}, []
        for depth in range(1, shape.depth + 1):
            nodes = [path for path in paths if len(path) == depth]
            width = max(path[-1] for path in nodes) + 1
            chosen = [expanded.index(path[:-1]) * width + path[-1] for path in nodes]
            with_children = [i for i, path in enumerate(nodes) if path in inner]
            parent = [expanded.index(nodes[i][:-1]) for i in with_children]
            indices = (torch.tensor(ids, dtype=torch.long, device=device) for ids in (chosen, with_children, parent))
            levels.append(LevelPlan(width, *indices))
            expanded = [nodes[i] for i in with_children]
        parents = torch.tensor([shape.parents], device=device)
        return cls(tuple(levels), DraftTree.from_parents(torch.zeros_like(parents), parents, shape.depth))

    def filled(self, tokens: Tensor, proposals: Tensor | None = None) -> DraftTree:
        """The tree with tokens (B, N)."""
        b, tree = len(tokens), self.tree
        parents, depths, ancestors = (t.expand(b, *t.shape[1:]) for t in (tree.parents, tree.depths, tree.ancestors))
        return DraftTree(tokens, parents, depths, ancestors, tree.depth, proposals=proposals)
