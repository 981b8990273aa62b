"""The draft's one decoder layer. Module names are those of the tensors on disk.

The layer does not know what its positions may see: it hands queries, keys and values to an `Attend`, which owns the mask and
any cache. Training and decoding bring different ones and share everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.devices import autocast_dtype
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.norm import RMSNorm
from vlm_eagle.draft.rotary import mrope_coordinate, rotary_cos_sin, rotate

# queries (B, H, Q, K), keys (B, H_kv, R, K), values (B, H_kv, R, K) of R new positions, Q of which are queries -> mixed values
# (B, H, Q, K)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Rows = slice | Tensor  # (n,) int64, or the slice that says the same without a copy
Projected = tuple[Tensor, Tensor, Tensor]  # queries (B, Q, H * K), keys and values (B, R, H_kv * K), not yet cut into heads


@dataclass(frozen=True)
class Embedded:
    """R embeddings as attention takes them. A product with [embedding, hidden] is a sum of two, and training, whose steps read
    the same tokens at other positions, makes the first of them once.

    Attributes:
        projected: what the normed embeddings add to queries, keys and values.
        weights: the columns of q_proj, k_proj and v_proj that normed hidden states meet, (..., D).
    """

    projected: Projected
    weights: Projected

    def at(self, queries: Rows, rows: Rows) -> "Embedded":
        """Of other positions: `queries` among the Q, `rows` among the R."""
        q, k, v = self.projected
        return replace(self, projected=(q[:, queries], k[:, rows], v[:, rows]))

    def project(self, hidden: Tensor, queries: Rows | None) -> Projected:
        """With normed hidden states (B, R, D)."""
        q, k, v = (a + b for a, b in zip(self.projected, _project(hidden, self.weights, queries), strict=True))
        return q, k, v


def _project(x: Tensor, weights: Projected, queries: Rows | None) -> Projected:
    q, k, v = weights
    x = x.to(k.dtype)  # once, and not by autocast three times
    return F.linear(x if queries is None else x[:, queries], q), F.linear(x, k), F.linear(x, v)


class DraftAttention(nn.Module):
    """Grouped-query attention over [normed embedding, normed hidden], width 2 D; with `qk_norm`, as in Qwen3, queries and keys
    are normed head by head."""

    coordinate: Tensor | None

    def __init__(self, config: Eagle3Config):
        super().__init__()
        self.head_dim, self.theta = config.head_dim, config.rope_theta
        heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(2 * config.hidden_size, heads, bias=False)
        self.k_proj = nn.Linear(2 * config.hidden_size, kv_heads, bias=False)
        self.v_proj = nn.Linear(2 * config.hidden_size, kv_heads, bias=False)
        self.o_proj = nn.Linear(heads, config.hidden_size, bias=False)
        norm = partial(RMSNorm, self.head_dim, eps=config.rms_norm_eps) if config.qk_norm else nn.Identity
        self.q_norm, self.k_norm = norm(), norm()
        mrope = mrope_coordinate(config.mrope_section, config.mrope_interleaved) if config.mrope_section else None
        self.register_buffer("coordinate", mrope, persistent=False)

    @property
    def _weights(self) -> Projected:
        return self.q_proj.weight, self.k_proj.weight, self.v_proj.weight

    def project(self, x: Tensor, queries: Rows | None = None) -> Projected:
        """Of x (B, R, 2 D); `queries` are the positions that have queries, by default all."""
        return _project(x, self._weights, queries)

    def embedded(self, embedding: Tensor, queries: Rows) -> Embedded:
        """Of normed embeddings (B, R, D)."""
        halves = [weight.to(autocast_dtype(weight)).chunk(2, dim=1) for weight in self._weights]
        first, second = zip(*halves, strict=True)
        return Embedded(_project(embedding, first, queries), second)

    def forward(self, projected: Projected, positions: Tensor, attend: Attend, queries: Rows | None = None) -> Tensor:
        """(B, Q, D) at rotary positions (B, R), in an M-RoPE draft also (3, B, R); `queries` as for `project`."""
        q, k, v = (rearrange(part, "b r (h k) -> b h r k", k=self.head_dim) for part in projected)
        q, k = self.q_norm(q), self.k_norm(k)
        coordinate = self.coordinate if positions.ndim == 3 else None  # three equal coordinates are one
        cos, sin = (t[:, None] for t in rotary_cos_sin(positions, self.head_dim, self.theta, coordinate))
        k = rotate(k, cos, sin)
        if queries is not None:
            cos, sin = cos[:, :, queries], sin[:, :, queries]
        mixed = attend(rotate(q, cos, sin), k, v)
        return self.o_proj(rearrange(mixed, "b h r k -> b r (h k)"))


class DraftMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Eagle3Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DraftLayer(nn.Module):
    """a = [norm(embedding), norm(hidden)]; x = hidden + attention(a); y = x + mlp(norm(x)). y leaves un-normed.

    With `norm_before_residual` (some of vLLM's `speculators` drafts), x = norm(hidden) + attention(a).
    """

    def __init__(self, config: Eagle3Config):
        super().__init__()
        self.norm_before_residual = config.norm_before_residual
        self.hidden_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = DraftAttention(config)
        self.mlp = DraftMLP(config)

    def embedded(self, embedding: Tensor, queries: Rows) -> Embedded:
        """Of R embeddings (B, R, D), for `forward`; `queries` are the positions that have queries."""
        return self.self_attn.embedded(self.input_layernorm(embedding), queries)

    def forward(
        self, hidden: Tensor, embedding: Tensor | Embedded, positions: Tensor, attend: Attend, queries: Rows | None = None
    ) -> Tensor:
        """(B, Q, D) from hidden (B, R, D), embedding (B, R, D) and positions as `DraftAttention` takes them. Keys and
        values are made of all R positions, the output of `queries` (Q,) alone, by default of all."""
        normed = self.hidden_norm(hidden)
        if isinstance(embedding, Embedded):
            projected = embedding.project(normed, queries)
        else:
            a = torch.cat([self.input_layernorm(embedding.to(hidden.dtype)), normed], dim=-1)
            projected = self.self_attn.project(a, queries)
        residual = normed if self.norm_before_residual else hidden
        x = (residual if queries is None else residual[:, queries]) + self.self_attn(projected, positions, attend, queries)
        return x + self.mlp(self.post_attention_layernorm(x))
