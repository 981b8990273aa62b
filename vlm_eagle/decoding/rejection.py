"""Stochastic drafting for a chain: tokens drawn from the draft's distribution q, kept with probability min(1, p / q).

Accepts more than the deterministic chain when the draft's distribution is close to the target's, and is equally exact: a
rejected token is replaced by a draw from the normalised max(p - q, 0). Source: https://arxiv.org/abs/2211.17192.
"""

import torch
from torch import Tensor

from vlm_eagle.decoding.acceptance import VerifyResult
from vlm_eagle.decoding.sampling import draw
from vlm_eagle.decoding.tree import DraftTree


def accept_sampled(tree: DraftTree, probabilities: Tensor, target_ids: Tensor, uniform: Tensor) -> VerifyResult:
    """The verdict on a chain whose tokens were drawn from `tree.proposals`.

    Args:
        tree: B chains of N nodes with proposals q (B, N - 1, W) over the draft vocabulary.
        probabilities: (B, N, V), the target's processed distribution p after each node.
        target_ids: (W,) int64, the target id of every draft id.
        uniform: (B, 2 N) in [0, 1): N - 1 numbers for keeping, then as many as needed for the final draw.
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
