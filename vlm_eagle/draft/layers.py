"""The draft's one decoder layer. Module names are those of the tensors on disk.

The layer does not know what its rows may see: it hands queries, keys and values to an `Attend`, which owns the mask and
any cache. Training and decoding bring different ones and share everything else.
"""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.rotary import mrope_coordinate, rotary_cos_sin, rotate

# (queries (B, H, Q, K), keys (B, H_kv, R, K), values (B, H_kv, R, K)) of R new rows, Q of which ask -> mixed values (B, H,
# Q, K)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class DraftAttention(nn.Module):
    """Grouped-query attention over [normed embedding, normed hidden], width 2 D; with `qk_norm`, as in Qwen3, queries and keys
    are normed head by head."""

    def __init__(self, config: Eagle3Config):
        super().__init__()
        self.head_dim, self.theta = config.head_dim, config.rope_theta
        heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(2 * config.hidden_size, heads, bias=False)
        self.k_proj = nn.Linear(2 * config.hidden_size, kv_heads, bias=False)
        self.v_proj = nn.Linear(2 * config.hidden_size, kv_heads, bias=False)
        self.o_proj = nn.Linear(heads, config.hidden_size, bias=False)
        norm = partial(nn.RMSNorm, self.head_dim, eps=config.rms_norm_eps) if config.qk_norm else nn.Identity
        self.q_norm, self.k_norm = norm(), norm()
        mrope = mrope_coordinate(config.mrope_section, config.mrope_interleaved) if config.mrope_section else None
        self.register_buffer("coordinate", mrope, persistent=False)

    def forward(self, x: Tensor, positions: Tensor, attend: Attend, queries: Tensor | None = None) -> Tensor:
        """(B, Q, D) from x (B, R, 2 D) at rotary positions (B, R), in an M-RoPE draft also (3, B, R); `queries` (Q,) are the
        rows that ask, by default all."""

        def heads(projected: Tensor) -> Tensor:
            return rearrange(projected, "b r (h k) -> b h r k", k=self.head_dim)

        asking = x if queries is None else x[:, queries]
        q, k, v = self.q_norm(heads(self.q_proj(asking))), self.k_norm(heads(self.k_proj(x))), heads(self.v_proj(x))
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
        self.hidden_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = DraftAttention(config)
        self.mlp = DraftMLP(config)

    def forward(
        self, hidden: Tensor, embedding: Tensor, positions: Tensor, attend: Attend, queries: Tensor | None = None
    ) -> Tensor:
        """(B, Q, D) from hidden (B, R, D), embedding (B, R, D) and positions as `DraftAttention` takes them. Keys and
        values are made of all R rows, the output of `queries` (Q,) alone, by default of all."""
        normed = self.hidden_norm(hidden)
        a = torch.cat([self.input_layernorm(embedding), normed], dim=-1)
        residual = normed if self.norm_before_residual else hidden
        x = (residual if queries is None else residual[:, queries]) + self.self_attn(a, positions, attend, queries)
        return x + self.mlp(self.post_attention_layernorm(x))
