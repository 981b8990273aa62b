"""How a token is chosen from logits: greedy, or from the processed distribution. Warping is transformers' own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
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
        self.greedy = sampling.temperature == 0
        self.warpers = LogitsProcessorList()
        if not self.greedy:
            self.warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self.warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self.warpers.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self.warpers.append(MinPLogitsWarper(sampling.min_p))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., V) the processed distribution of logits (..., V), for a temperature above 0."""
        unread: Any = None  # none of these warpers looks at the tokens so far
        return self.warpers(unread, logits.reshape(-1, logits.shape[-1])).softmax(-1).view(logits.shape)

    def __call__(self, logits: Tensor, uniform: Tensor | None = None) -> Tensor:
        """(...) int64 tokens from logits (..., V), with one uniform number in [0, 1) each unless greedy."""
        if self.greedy:
            return logits.argmax(-1)
        assert uniform is not None
        return draw(self.probabilities(logits), uniform)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """(...) int64 drawn from (..., V) by inversion: the first token whose cumulative probability exceeds uniform (...).

    float64, so that 150,000 small terms add up (on the CPU if the device has none); a token of probability zero is never drawn.
    """
    device = probabilities.device
    if not has_float64(device):
        probabilities, uniform = probabilities.cpu(), uniform.cpu()
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[..., -1:]
    index = torch.searchsorted(cumulative, (uniform[..., None] * total).contiguous(), right=True)
    last = (cumulative < total).sum(-1, keepdim=True)  # rounding may reach the total exactly
    return torch.minimum(index, last).squeeze(-1).to(device)


def uniform_numbers(seeds: Sequence[int], cycles: int, per_cycle: int, device: torch.device) -> Tensor:
    """(B, cycles, per_cycle) in [0, 1), made before decoding from one seed per prompt, so that what a prompt draws does not
    depend on its batch. (torch's generators use only the low 32 bits of a seed on a CPU.)"""
    numbers = torch.from_numpy(np.stack([np.random.default_rng(seed).random((cycles, per_cycle)) for seed in seeds]))
    return (numbers if has_float64(device) else numbers.float()).to(device)
