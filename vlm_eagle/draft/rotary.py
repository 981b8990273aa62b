"""Plain 1-D rotary embedding, rotate-half form: the scheme both engines use for an EAGLE-3 draft."""

import torch
from torch import Tensor


def rotary_cos_sin(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, (..., K) float32, for integer `positions` (...). RoPE: https://arxiv.org/abs/2104.09864.

    Frequencies and angles are float32 whatever the model's dtype: in bfloat16, positions past a few hundred blur.
    """
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[..., None].float() * (1.0 / theta**exponent)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (..., K) by broadcastable cos and sin (..., K); the dtype of `x` is kept."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)
