"""How a token is chosen from logits: greedy, or from the processed distribution. Warping is transformers' own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vlm_eagle.decoding.options import Sampling
from vlm_eagle.devices import has_float64


class Sampler:
    """Draws tokens at all nodes of all trees at once; only those on the accepted path are used.

    Draws at different nodes are independent, so using some of them changes nothing about their distribution.
    """

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self.warpers = LogitsProcessorList()
        if sampling.temperature > 0:
            self.warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self.warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self.warpers.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self.warpers.append(MinPLogitsWarper(sampling.min_p))

    @property
    def greedy(self) -> bool:
        """Whether no random numbers are needed."""
        return self.sampling.temperature == 0

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., V) the processed distribution of logits (..., V); a temperature above 0 is assumed."""
        rows = logits.reshape(-1, logits.shape[-1])
        unread: Any = None  # none of these warpers looks at the tokens so far
        return self.warpers(unread, rows).softmax(-1).view(logits.shape)

    def __call__(self, logits: Tensor, uniform: Tensor | None = None) -> Tensor:
        """(...) int64 tokens from logits (..., V), with one uniform number in [0, 1) each unless greedy."""
        if self.greedy:
            return logits.argmax(-1)
        assert uniform is not None
        return draw(self.probabilities(logits), uniform)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """(...) int64 drawn from (..., V) by inversion: the first token whose cumulative probability exceeds uniform (...).

    float64, so that 150,000 small terms add up (on the CPU where the device has none); a token of probability zero is never
    drawn.
    """
    where = probabilities.device
    if not has_float64(where):
        probabilities, uniform = probabilities.cpu(), uniform.cpu()
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[..., -1:]
    index = torch.searchsorted(cumulative, (uniform[..., None] * total).contiguous(), right=True)
    last = (cumulative < total).sum(-1, keepdim=True)  # rounding may reach the total exactly
    return torch.minimum(index, last).squeeze(-1).to(where)


class Uniforms:
    """Each row's own stream of uniform numbers, made before decoding: what a prompt draws does not depend on its batch.

    Row b's numbers for forward c are a block of `per_cycle`; forward 0 is the prefill.
    """

    def __init__(self, seeds: Sequence[int], cycles: int, per_cycle: int, device: torch.device):
        rows = [
            torch.rand(cycles, per_cycle, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        blocks = torch.stack(rows)  # (B, cycles, per_cycle)
        self.blocks = blocks.to(device) if has_float64(device) else blocks.float().to(device)

    def __getitem__(self, cycle: int) -> Tensor:
        """(B, per_cycle)"""
        return self.blocks[:, cycle]
