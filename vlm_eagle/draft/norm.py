"""Root-mean-square norm whose gradient is written out."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm, which on a CPU, and wherever input and weight differ in dtype, is made of single operations: autograd then
    keeps three tensors of the input's size in float32 and takes a dozen passes over them. This keeps the input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        return _Norm.apply(x, self.weight, self.eps) if torch.is_grad_enabled() else super().forward(x)


class _Norm(torch.autograd.Function):
    """y = w x s, s = (mean(x^2) + eps)^(-1/2). With g = w dy: dx = s (g - n mean(g n)), where n = x s, and dw = sum(dy n)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = (x.float().square().mean(-1, keepdim=True) + eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x.float() * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        normed, grad = x.float() * scale, grad.float()
        product = grad * normed
        mean = (product @ weight.float())[..., None] / x.shape[-1]
        d_x = (grad * weight).sub_(normed.mul_(mean)).mul_(scale)
        return d_x.to(x.dtype), product.flatten(0, -2).sum(0).to(weight.dtype), None
