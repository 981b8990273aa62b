"""Rotary embedding, rotate-half form. Ours is plain 1-D on the sequence index, the one scheme both engines serve; drafts made
by others may use the target's three M-RoPE coordinates (time, height, width)."""

import torch
from torch import Tensor


def rotary_cos_sin(positions: Tensor, head_dim: int, theta: float, coordinate: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin, (..., K) float32, for integer `positions` (...). RoPE: https://arxiv.org/abs/2104.09864.

    Frequencies and angles are float32 whatever the model's dtype: in bfloat16, positions past a few hundred blur. With
    `coordinate` (K / 2,) int64 positions are (3, ...), and each frequency takes the coordinate named there.
    """
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[..., None].float() * (1.0 / theta**exponent)
    if coordinate is not None:
        angles = angles.gather(0, coordinate.expand_as(angles[:1]))[0]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def mrope_coordinate(section: tuple[int, int, int], interleaved: bool) -> Tensor:
    """(K / 2,) int64, which coordinate turns each frequency; `section` says how many frequencies each of the three gets.

    Interleaved (Qwen3-VL): t h w t h w ..., where h or w is used up, t. Else (Qwen2.5-VL): all t, all h, all w. Source:
    `apply_interleaved_mrope` and `apply_multimodal_rotary_pos_emb` of transformers' Qwen3-VL and Qwen2.5-VL.
    """
    if not interleaved:
        return torch.arange(3).repeat_interleave(torch.tensor(section))
    index = torch.arange(sum(section))
    left = index < 3 * torch.tensor(section)[index % 3]
    return torch.where(left, index % 3, 0)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (..., K) by broadcastable cos and sin (..., K); the dtype of `x` is kept."""
    wide, half = x.float(), x.shape[-1] // 2
    signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)  # the minus of rotate-half, on what is far smaller than x
    return (wide * cos + wide.roll(half, dims=-1) * signed).to(x.dtype)
