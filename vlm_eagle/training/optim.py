"""Muon for matrices, AdamW for the rest, and one learning-rate schedule over both."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from vlm_eagle.devices import product_dtype
from vlm_eagle.training.muon import Muon

Schedule = Literal["cosine", "constant", "wsd"]


def split_parameters(named: Iterable[tuple[str, nn.Parameter]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices for Muon, everything else for AdamW).

    Embeddings and `lm_head` are matrices but their rows are words, not directions of one map, and stay with AdamW, as the
    Muon paper advises (https://arxiv.org/abs/2502.16982).
    """
    muon, adamw = [], []
    for name, parameter in named:
        if parameter.requires_grad:
            words = "embed" in name or "lm_head" in name
            (muon if parameter.ndim == 2 and not words else adamw).append(parameter)
    return muon, adamw


def build_optimizers(
    model: nn.Module, *, optimizer: Literal["muon", "adamw"], lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """One or two optimizers over the trainable parameters of `model`. With "muon", both run at the same `lr`."""
    muon, adamw = split_parameters(model.named_parameters())
    if optimizer == "adamw":
        muon, adamw = [], muon + adamw
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        precision = str(product_dtype(muon[0].device)).removeprefix("torch.")
        optimizers.append(Muon(muon, lr=lr, weight_decay=weight_decay, precision=precision))
    if adamw:
        matrices = [p for p in adamw if p.ndim >= 2]
        vectors = [p for p in adamw if p.ndim < 2]  # norms and biases are not decayed
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizers.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.95), fused=True))
    return optimizers


def lr_scale(schedule: Schedule, warmup: int, total: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step: linear warm-up, then cosine to 10 %, constant, or constant with a linear
    decay over the last fifth (wsd)."""

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        if schedule == "cosine":
            return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
        if schedule == "wsd" and progress > 0.8:
            return max(1.0 - (progress - 0.8) / 0.2, 0.0)
        return 1.0

    return scale


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scales all gradients so that their joint norm is at most `max_norm`; returns the norm before, a 0-d tensor."""
    return torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], max_norm)
