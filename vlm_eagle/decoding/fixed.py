"""A fixed tree's growth, worked out once: which ranks make its nodes, level by level."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.decoding.tree import DraftTree, TreeShape


@dataclass(frozen=True)
class LevelPlan:
    """How one level is made from the rows expanded in the level before.

    Attributes:
        width: best tokens looked at per expanded row.
        chosen: (nodes,) int64, which of rows x width become this level's nodes.
        expanded: (F,) int64, which of these nodes have children; None on the last level.
        parent_row: (F,) int64, the expanded row of the level before that is each one's parent.
    """

    width: int
    chosen: Tensor
    expanded: Tensor | None
    parent_row: Tensor | None


@dataclass(frozen=True)
class FixedPlan:
    """All levels, and the tree they make (B = 1, tokens zero)."""

    levels: tuple[LevelPlan, ...]
    tree: DraftTree

    @classmethod
    def of(cls, shape: TreeShape, device: torch.device) -> "FixedPlan":
        """The plan of a shape with fixed `paths` (a chain has them too)."""
        rows: list[tuple[int, ...]] = [()]  # nodes expanded in the level before
        paths = shape.paths or ()
        inner, levels = {path[:-1] for path in paths}, []
        for depth in range(1, shape.depth + 1):
            nodes = [path for path in paths if len(path) == depth]
            width = max(path[-1] for path in nodes) + 1
            chosen = [rows.index(path[:-1]) * width + path[-1] for path in nodes]
            going_on = [i for i, path in enumerate(nodes) if path in inner]
            parent_row = [rows.index(nodes[i][:-1]) for i in going_on]
            as_tensor = lambda values: torch.tensor(values, device=device) if values else None
            levels.append(LevelPlan(width, torch.tensor(chosen, device=device), as_tensor(going_on), as_tensor(parent_row)))
            rows = [nodes[i] for i in going_on]
        parents = torch.tensor([shape.parents], device=device)
        return cls(tuple(levels), DraftTree.from_parents(torch.zeros_like(parents), parents, shape.depth))
