"""The acceptance rule: which proposed tokens stay, and the bonus token after them. Both ways of it are exact: committed tokens
have the target's own distribution, whatever the draft proposes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.decoding.sampling import draw
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
        """The committed tokens of every sequence: the only time in a cycle that the host waits for the device."""
        both = torch.cat([self.committed, self.counts[:, None]], dim=1).tolist()
        return [sequence[: sequence[-1]] for sequence in both]


def accept(tree: DraftTree, drawn: Tensor) -> VerifyResult:
    """Walks down from every root: at each node, descend to the child that holds the token the target drew there.

    This is exact for a deterministic tree: what is committed is always the target's own draw; the tree only decides for how
    many draws one forward is enough. Greedy is the same walk with argmax as the draw.

    Args:
        tree: B trees of N nodes; the children of a node hold different tokens.
        drawn: (B, N) int64, the target's choice after each node.
    """
    hit = tree.tokens == drawn.gather(1, tree.parents.clamp_min(0))
    hit[:, 0] = True
    accepted = ~(tree.ancestors & ~hit[:, None]).any(-1)  # a node stays iff all its ancestors and itself were drawn
    # children differ, so at most one node of each depth is accepted; the others go to a last column that is cut off
    column = torch.where(accepted, tree.depths, tree.depth + 1)
    nodes = torch.arange(len(tree), device=drawn.device).expand_as(column)
    path = torch.zeros(len(column), tree.depth + 2, dtype=torch.long, device=drawn.device).scatter_(1, column, nodes)
    path = path[:, : tree.depth + 1]
    return VerifyResult(path, drawn.gather(1, path), accepted.sum(-1))


def accept_sampled(tree: DraftTree, probabilities: Tensor, target_ids: Tensor, uniform: Tensor) -> VerifyResult:
    """Rejection sampling of a chain whose tokens were drawn from q, `tree.proposals`: each is kept with probability
    min(1, p / q); the first rejected one is replaced by a draw from the normalised max(p - q, 0).

    Source: https://arxiv.org/abs/2211.17192. More is accepted than of a deterministic chain if the draft's distribution is
    close to the target's.

    Args:
        tree: B chains of N nodes with proposals q (B, N - 1, W) over the draft vocabulary.
        probabilities: (B, N, V), the target's processed distribution p after each node.
        target_ids: (W,) int64, the target id of every draft id.
        uniform: (B, 2 N) in [0, 1): N - 1 numbers for keeping, then one for the final draw.
    """
    b, n = tree.tokens.shape
    assert tree.proposals is not None
    q = torch.zeros_like(probabilities[:, : n - 1]).index_copy_(2, target_ids, tree.proposals.to(probabilities.dtype))
    proposed = tree.tokens[:, 1:, None]
    p_token = probabilities[:, : n - 1].gather(2, proposed).squeeze(2)
    q_token = q.gather(2, proposed).squeeze(2)
    kept = uniform[:, : n - 1] * q_token < p_token
    counts = kept.long().cumprod(1).sum(1) + 1  # kept ones up to the first rejection, and the final draw
    last = (counts - 1)[:, None, None].expand(-1, 1, probabilities.shape[2])
    q = torch.cat([q, torch.zeros_like(q[:, :1])], dim=1)  # after the last node nothing was proposed: draw from p itself
    residual = (probabilities.gather(1, last) - q.gather(1, last)).clamp_min(0)[:, 0]
    # p == q up to rounding leaves nothing over; such a token cannot have been rejected except by rounding either
    residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, probabilities.gather(1, last)[:, 0])
    bonus = draw(residual, uniform[:, n])
    path = torch.arange(n, device=q.device).expand(b, -1)
    committed = torch.cat([tree.tokens[:, 1:], bonus[:, None]], dim=1).scatter(1, counts[:, None] - 1, bonus[:, None])
    return VerifyResult(path, committed, counts)
