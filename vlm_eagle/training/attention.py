"""Attention of TTT: anchors against the step-0 rows before them and their own rows of later steps, work only where it counts.

Cost is anchors x keys in time, and one chunk of scores in memory, forward and backward: scores are computed again for the
gradient, as in flash attention (https://arxiv.org/abs/2205.14135). Plain matrix products, so every device runs it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch
from einops import rearrange
from torch import Tensor

from vlm_eagle.draft.layers import Rows
from vlm_eagle.training.anchors import StepRows
from vlm_eagle.training.chunks import add_product, chunk_sizes


@dataclass(frozen=True)
class KVContext:
    """What the anchors of one step see besides the rows being computed.

    Attributes:
        keys, values: (H_kv, R, K), step 0 of all packed rows.
        own: by later step, keys and values (H_kv, A, K) of each anchor's own row.
    """

    keys: Tensor
    values: Tensor
    own: tuple[tuple[Tensor, Tensor], ...] = ()

    def kept(self, keep: Rows) -> "KVContext":
        """For a step that fewer anchors reach."""
        return KVContext(self.keys, self.values, tuple((k[:, keep], v[:, keep]) for k, v in self.own))


class AnchorAttention:
    """The `Attend` of one TTT step of a packed batch. Afterwards `seen` holds what the next step may look at."""

    def __init__(self, step: StepRows, seen: KVContext | None):
        """`seen` is None at step 0, whose keys and values are those of all packed rows."""
        self.step, self.seen = step, seen

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(1, H, A, K) from q (1, H, A, K), k and v (1, H_kv, A or, at step 0, R, K)."""
        q, k, v = (t[0].to(v.dtype) for t in (q, k, v))
        if self.seen is None:
            self.seen = KVContext(k, v)
        else:
            self.seen = replace(self.seen, own=(*self.seen.own, (k, v)))
        s = self.seen
        return _Attention.apply(self.step, q, s.keys, s.values, *chain.from_iterable(s.own))[None]


class _Attention(torch.autograd.Function):
    """(H, A, K) from queries (H, A, K), keys and values (H_kv, R, K) of step 0, and the `own` keys and values (H_kv, A, K) in
    turns. Softmax runs in float32.

    Inside, G = H / H_kv query heads share a key-value head and are treated as G rows of one anchor: (H_kv, A * G, K). Shared
    rows of step 0 are taken in chunks of anchors; an anchor's own rows are few, and each is taken for all anchors at once.
    Both meet in the logarithm of their sums, `lse`.
    """

    @staticmethod
    def forward(ctx, step: StepRows, q: Tensor, keys: Tensor, values: Tensor, *own: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            query = _grouped(q, keys) * q.shape[-1] ** -0.5
            out, lse = torch.empty_like(query), query.new_empty((*query.shape[:2], 1), dtype=torch.float32)
            for chunk in _chunks(step, query):
                scores = chunk.scores(query, keys)
                largest = scores.amax(-1, keepdim=True)
                sums = scores.sub_(largest).exp_().sum(-1, keepdim=True)
                out[:, chunk.asking] = (scores.to(q.dtype) @ values[:, chunk.rows]).div_(sums)
                lse[:, chunk.asking] = sums.log_().add_(largest)
                del scores  # only one chunk's live at a time
            scores = [_dot(query, key) for key in own[::2]]
            if own:
                shared, lse = lse, torch.stack([lse, *scores]).logsumexp(0)
                out *= (shared - lse).exp_()
            own_p = [score.sub_(lse).exp_() for score in scores]
            for p, value in zip(own_p, own[1::2], strict=True):
                _by_anchor(out, value).addcmul_(_by_anchor(p.to(q.dtype), value), value[:, :, None])
        ctx.save_for_backward(query, keys, values, out, lse, *own, *own_p)
        ctx.step = step
        return _by_head(out, q)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, out, lse, *rest = ctx.saved_tensors
        own, own_p = rest[: 2 * len(rest) // 3], rest[2 * len(rest) // 3 :]
        q, grad = grad, _grouped(grad, keys).contiguous()
        delta = (grad.float() * out.float()).sum(-1, keepdim=True)
        d_query = torch.empty_like(query)
        d_keys, d_values = (torch.zeros_like(t, dtype=torch.float32) for t in (keys, values))
        for chunk in _chunks(ctx.step, query):
            p = chunk.scores(query, keys).sub_(lse[:, chunk.asking]).exp_()
            g = grad[:, chunk.asking]
            d_scores = (g @ values[:, chunk.rows].transpose(1, 2)).float().sub_(delta[:, chunk.asking]).mul_(p)
            d_scores, p = d_scores.to(query.dtype), p.to(query.dtype)
            d_query[:, chunk.asking] = d_scores @ keys[:, chunk.rows]
            add_product(d_keys[:, chunk.rows], d_scores.transpose(1, 2), query[:, chunk.asking])
            add_product(d_values[:, chunk.rows], p.transpose(1, 2), g)
            del p, d_scores
        d_own = []
        for key, value, p in zip(own[::2], own[1::2], own_p, strict=True):
            d_score = (_dot(grad, value) - delta).mul_(p).to(query.dtype)
            _by_anchor(d_query, key).addcmul_(_by_anchor(d_score, key), key[:, :, None])
            d_own += [_by_anchor(d_score * query, key).sum(2), _by_anchor(p.to(query.dtype) * grad, key).sum(2)]
        d_q = _by_head(d_query, q) * query.shape[-1] ** -0.5
        return None, d_q, d_keys.to(keys.dtype), d_values.to(values.dtype), *d_own


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring anchors of one sample, and the packed rows that some of them see."""

    asking: slice  # their query rows, G for each
    rows: slice
    hidden: int  # from this one of `rows` on, some anchor may not see it
    position: Tensor  # (a * G, 1) each query row's own row, counted from rows.start

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """(H_kv, a * G, rows) float32, masked."""
        scores = (query[:, self.asking] @ keys[:, self.rows].transpose(1, 2)).float()
        later = torch.arange(self.hidden, scores.shape[-1], device=query.device) > self.position
        scores[..., self.hidden :].masked_fill_(later, float("-inf"))
        return scores


def _chunks(step: StepRows, query: Tensor) -> Iterator[_Chunk]:
    size, groups = chunk_sizes(query.device).queries, query.shape[1] // len(step.ends)
    position = step.position.repeat_interleave(groups)[:, None]
    for first, last, start in step.spans:
        for a in range(first, last, size):
            b = min(a + size, last)
            rows = slice(start, start + step.ends[b - 1])  # `ends` ascend, and are known to the host
            asking = slice(a * groups, b * groups)
            yield _Chunk(asking, rows, step.ends[a], position[asking])


def _grouped(q: Tensor, keys: Tensor) -> Tensor:
    return rearrange(q, "(h g) a k -> h (a g) k", h=len(keys))


def _by_head(rows: Tensor, q: Tensor) -> Tensor:
    """Back to the shape of q (H, A, K)."""
    return rearrange(rows, "h (a g) k -> (h g) a k", a=q.shape[1])


def _by_anchor(rows: Tensor, own: Tensor) -> Tensor:
    """(H_kv, A, G, ...) of (H_kv, A * G, ...)."""
    return rows.unflatten(1, (own.shape[1], -1))


def _dot(rows: Tensor, own: Tensor) -> Tensor:
    """(H_kv, A * G, 1) float32, of rows (H_kv, A * G, K) with each anchor's own (H_kv, A, K). As a matrix product it would be
    slower."""
    return (_by_anchor(rows, own) * own[:, :, None]).sum(-1, dtype=torch.float32).flatten(1)[..., None]
