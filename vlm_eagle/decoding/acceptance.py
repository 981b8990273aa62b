"""The acceptance walk as matrix operations: which proposed tokens stay, and the bonus token after them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.decoding.tree import DraftTree


@dataclass(frozen=True)
class VerifyResult:
    """What a verification committed, still on the device.

    Attributes:
        path: (B, P) int64, the accepted nodes, root first; entries from `counts` on mean nothing. P is the tree's depth + 1.
        committed: (B, P) int64, the accepted tokens and the bonus token, `counts` of them.
        counts: (B,) int64, 1 .. P; 0 where a sequence is finished.
    """

    path: Tensor
    committed: Tensor
    counts: Tensor

    def to_host(self) -> list[list[int]]:
        """The committed tokens of every sequence: the one read of a cycle."""
        both = torch.cat([self.committed, self.counts[:, None]], dim=1).tolist()
        return [row[: row[-1]] for row in both]


def accept(tree: DraftTree, drawn: Tensor) -> VerifyResult:
    """Walks down from every root: at each node, descend to the child that holds the token the target drew there.

    This is exact for a deterministic tree: what is committed is always the target's own draw, the tree only decides how many
    draws one forward pass was good for. Greedy is the same walk with argmax as the draw.

    Args:
        tree: B trees of N nodes; the children of a node hold different tokens.
        drawn: (B, N) int64, the target's choice after each node.
    """
    hit = tree.tokens == drawn.gather(1, tree.parents.clamp_min(0))
    hit[:, 0] = True
    accepted = ~(tree.ancestors & ~hit[:, None]).any(-1)  # a node stays iff all its ancestors and itself were drawn
    # children differ, so at most one node of each depth is accepted; the others land in a last column that is cut off
    place = torch.where(accepted, tree.depths, tree.depth + 1)
    nodes = torch.arange(len(tree), device=drawn.device).expand_as(place)
    path = torch.zeros(len(place), tree.depth + 2, dtype=torch.long, device=drawn.device).scatter_(1, place, nodes)
    path = path[:, : tree.depth + 1]
    return VerifyResult(path, drawn.gather(1, path), accepted.sum(-1))
