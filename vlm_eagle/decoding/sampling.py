"""How the target chooses a token: greedy, or from its processed distribution. Warping is transformers' own."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vlm_eagle.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters with vLLM's and SGLang's meaning; temperature 0 is greedy, top_k 0 is off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or not 0 <= self.min_p <= 1:
            raise UserError(f"Sampling needs temperature >= 0, 0 < top_p <= 1, top_k >= 0, 0 <= min_p <= 1, got {self}.")


class Sampler:
    """Draws target tokens at the nodes of a tree, all at once; only those on the accepted path are used.

    Draws at different nodes are independent, so using some of them changes nothing about their distribution.
    """

    def __init__(self, sampling: Sampling, generator: torch.Generator | None = None):
        self.sampling, self.generator = sampling, generator
        self.warpers = LogitsProcessorList()
        if sampling.temperature > 0:
            self.warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self.warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self.warpers.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self.warpers.append(MinPLogitsWarper(sampling.min_p))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, V) the processed distribution of logits (N, V); a temperature above 0 is assumed."""
        return self.warpers(None, logits).softmax(-1)

    def __call__(self, logits: Tensor) -> Tensor:
        """(N,) int64 tokens from logits (N, V)."""
        if self.sampling.temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator).squeeze(-1)
