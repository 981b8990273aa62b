"""Attention of TTT: anchors against the step-0 rows before them and their own rows of later steps, work only where it counts.

Cost is anchors x keys in time, and one chunk of scores in memory, forward and backward: scores are computed again for the
gradient, as in flash attention (https://arxiv.org/abs/2205.14135). Plain matrix products, so every device runs it.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from vlm_eagle.training.anchors import StepRows

CHUNK = {"cpu": 64, "cuda": 512}  # queries whose scores exist at one time: what fits a cache; what fills a GPU


@dataclass(frozen=True)
class Seen:
    """What the anchors of one step see besides the rows being computed.

    Attributes:
        keys, values: (H_kv, R, K), step 0 of all packed rows.
        own_keys, own_values: (H_kv, A, m, K), each anchor's own rows of the m later steps.
    """

    keys: Tensor
    values: Tensor
    own_keys: Tensor
    own_values: Tensor

    def kept(self, keep: Tensor) -> "Seen":
        """For a step that fewer anchors reach."""
        return Seen(self.keys, self.values, self.own_keys[:, keep], self.own_values[:, keep])


class AnchorAttention:
    """The `Attend` of one TTT step of a packed batch. Afterwards `seen` holds what the next step may look at."""

    def __init__(self, step: StepRows, seen: Seen | None):
        """`seen` is None at step 0, whose keys and values are those of all packed rows."""
        self.step, self.seen = step, seen

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(1, H, A, K) from q (1, H, A, K), k and v (1, H_kv, A or, at step 0, R, K)."""
        q, k, v = (t[0].to(v.dtype) for t in (q, k, v))
        if self.seen is None:
            none = k.new_empty(k.shape[0], q.shape[1], 0, k.shape[2])
            self.seen = Seen(k, v, none, none)
        else:
            own_keys = torch.cat([self.seen.own_keys, k[:, :, None]], dim=2)
            own_values = torch.cat([self.seen.own_values, v[:, :, None]], dim=2)
            self.seen = Seen(self.seen.keys, self.seen.values, own_keys, own_values)
        s = self.seen
        return _Attention.apply(q, s.keys, s.values, s.own_keys, s.own_values, self.step)[None]


class _Attention(torch.autograd.Function):
    """(H, A, K) from queries (H, A, K) and the fields of `Seen`. Softmax runs in float32."""

    @staticmethod
    def forward(ctx, q: Tensor, keys: Tensor, values: Tensor, own_keys: Tensor, own_values: Tensor, step: StepRows) -> Tensor:
        out = torch.empty_like(q)
        lse = q.new_empty(q.shape[:2], dtype=torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            for chunk in _chunks(step, q.device):
                scores, own = _scores(chunk, q, keys, own_keys)
                total = torch.logaddexp(scores.logsumexp(-1), own.logsumexp(-1)) if own.shape[-1] else scores.logsumexp(-1)
                p, p_own = (torch.exp(s - total[..., None]).to(q.dtype) for s in (scores, own))
                mixed = chunk.prefix_product(p, values) + torch.einsum("hgam,hamk->hgak", p_own, own_values[:, chunk.anchors])
                out[:, chunk.anchors] = rearrange(mixed, "h g a k -> (h g) a k")
                lse[:, chunk.anchors] = rearrange(total, "h g a -> (h g) a")
        ctx.save_for_backward(q, keys, values, own_keys, own_values, out, lse)
        ctx.step = step
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, keys, values, own_keys, own_values, out, lse = ctx.saved_tensors
        d_q, d_own_k, d_own_v = torch.empty_like(q), torch.empty_like(own_keys), torch.empty_like(own_values)
        d_keys, d_values = (torch.zeros_like(t, dtype=torch.float32) for t in (keys, values))
        heads = keys.shape[0]
        for chunk in _chunks(ctx.step, q.device):
            scores, own = _scores(chunk, q, keys, own_keys)
            group = {"h": heads}
            total, g, o, query = (
                rearrange(t[:, chunk.anchors], "(h g) a ... -> h g a ...", **group) for t in (lse, grad, out, q)
            )
            p, p_own = (torch.exp(s - total[..., None]) for s in (scores, own))
            delta = (g.float() * o.float()).sum(-1, keepdim=True)
            scale = q.shape[-1] ** -0.5
            d_s = (p * (chunk.prefix_product(g, values, transposed=True).float() - delta) * scale).to(q.dtype)
            g_own = torch.einsum("hgak,hamk->hgam", g, own_values[:, chunk.anchors]).float()
            d_own = (p_own * (g_own - delta) * scale).to(q.dtype)
            d_query = chunk.prefix_product(d_s, keys) + torch.einsum("hgam,hamk->hgak", d_own, own_keys[:, chunk.anchors])
            d_q[:, chunk.anchors] = rearrange(d_query, "h g a k -> (h g) a k")
            d_keys[:, chunk.rows] += torch.einsum("hgat,hgak->htk", d_s, query)
            d_values[:, chunk.rows] += torch.einsum("hgat,hgak->htk", p.to(q.dtype), g)
            d_own_k[:, chunk.anchors] = torch.einsum("hgam,hgak->hamk", d_own, query)
            d_own_v[:, chunk.anchors] = torch.einsum("hgam,hgak->hamk", p_own.to(q.dtype), g)
        return d_q, d_keys.to(keys.dtype), d_values.to(values.dtype), d_own_k, d_own_v, None


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring anchors of one sample and the packed rows that they may see."""

    anchors: slice
    rows: slice
    position: Tensor  # (a,) each anchor's own row, counted from rows.start

    def prefix_product(self, left: Tensor, rows: Tensor, transposed: bool = False) -> Tensor:
        """(h, g, a, .) from `left` (h, g, a, .) times the seen rows of (h, R, K), or times their transpose."""
        right = rows[:, self.rows]
        right = right.transpose(1, 2) if transposed else right
        product = torch.matmul(rearrange(left, "h g a x -> h (g a) x"), right)
        return rearrange(product, "h (g a) y -> h g a y", a=left.shape[2])


def _chunks(step: StepRows, device: torch.device) -> list[_Chunk]:
    size, chunks = CHUNK.get(device.type, CHUNK["cpu"]), []
    for first, last, start in step.spans:
        for a in range(first, last, size):
            b = min(a + size, last)
            # the last anchor's row is the furthest that any of them sees; `ends` is known to the host
            chunks.append(_Chunk(slice(a, b), slice(start, start + step.ends[b - 1]), step.position[a:b]))
    return chunks


def _scores(chunk: _Chunk, q: Tensor, keys: Tensor, own_keys: Tensor) -> tuple[Tensor, Tensor]:
    """((h, g, a, rows), (h, g, a, m)) float32, scaled and masked."""
    scale = q.shape[-1] ** -0.5
    query = rearrange(q[:, chunk.anchors], "(h g) a k -> h g a k", h=keys.shape[0])
    scores = chunk.prefix_product(query, keys, transposed=True).float().mul_(scale)
    later = torch.arange(scores.shape[-1], device=q.device) > chunk.position[:, None]
    own = torch.einsum("hgak,hamk->hgam", query, own_keys[:, chunk.anchors]).float().mul_(scale)
    return scores.masked_fill_(later, float("-inf")), own
