"""Rotary embedding in every form that drafts are made with."""

import torch
from torch import Tensor

from vlm_eagle.doctor.interpretation import Interpretation, Rotary


def angles(
    interpretation: Interpretation, rows: Tensor, mrope: Tensor, step: int, head_dim: int, section: tuple[int, ...] | None
) -> Tensor:
    """(R, K/2) float32 rotation angles of rows (R,) at a TTT step; `mrope` (3, T) are the target's positions and `section`
    its frequencies per axis."""
    half = head_dim // 2
    frequency = 1.0 / interpretation.theta ** (torch.arange(half, device=rows.device, dtype=torch.float32) * 2 / head_dim)
    if interpretation.positions == "index" or section is None:
        positions = rows[:, None].expand(-1, half)
    else:
        axis = _axes(interpretation.positions == "mrope", section, half)
        positions = mrope[:, rows].T[:, axis.to(rows.device)]
    return (positions + (step if interpretation.advance else 0)).float() * frequency


def rotate(x: Tensor, turn: Tensor, how: Rotary) -> Tensor:
    """Rotates heads (R, H, K) by angles (R, K/2)."""
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    a, b = x.chunk(2, -1) if how == "halves" else (x[..., 0::2], x[..., 1::2])
    turned = a * cos - b * sin, b * cos + a * sin
    return torch.cat(turned, -1) if how == "halves" else torch.stack(turned, -1).flatten(-2)


def _axes(interleaved: bool, section: tuple[int, ...], half: int) -> Tensor:
    """(K/2,) which of time, height and width turns each frequency. Qwen3-VL deals them out in turn until height and width have
    had their share; Qwen2.5-VL gives each a block."""
    if not interleaved:
        blocks = torch.arange(len(section)).repeat_interleave(torch.tensor(section))
        return torch.cat([blocks, blocks.new_zeros(max(half - len(blocks), 0))])[:half]
    number = torch.arange(half)
    axis = number % 3
    return axis.where(number < 3 * torch.tensor(section)[axis], 0)
