"""Muon: momentum whose direction is orthogonalised, in the precision that the device multiplies matrices fast in.

torch.optim.Muon takes the same steps, but always orthogonalises in bfloat16, which a CPU without bfloat16 instructions does
70 to 170 times slower than float32. Source: https://kellerjordan.github.io/posts/muon/ and https://arxiv.org/abs/2502.16982
(the scale of an update).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

A, B, C = 3.4445, -4.7750, 2.0315  # the quintic of the post: steepest at zero
STEPS, EPS = 5, 1e-7


def orthogonalise(matrix: Tensor, precision: torch.dtype) -> Tensor:
    """(m, n) in `precision`: the matrix with singular values near 1 (0.7 to 1.2), by five Newton-Schulz steps."""
    x = matrix.to(precision, copy=True)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T  # the products below are of the smaller side
    x.div_(x.norm().clamp_min(EPS))  # no singular value is larger than 1 then
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, and decoupled weight decay, for matrices alone.

    An update has 0.2 of the learning rate as its root mean square, about AdamW's, so that both take the same one.

    Args:
        params: matrices.
        lr: learning rate.
        weight_decay: times the learning rate.
        precision: of the orthogonalisation; by name and in `param_groups`, so that a checkpoint carries it and a resumed run
            keeps it.
        momentum: of the gradient's running mean.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        precision: str = "float32",
        momentum: float = 0.95,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "precision": precision, "momentum": momentum}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every matrix that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        lr, gradient, state = group["lr"], parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalise(gradient.lerp(mean, group["momentum"]), getattr(torch, group["precision"]))
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.add_(direction.to(parameter.dtype), alpha=-lr * 0.2 * math.sqrt(max(parameter.shape)))
