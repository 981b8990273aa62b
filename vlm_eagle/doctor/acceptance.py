"""Counts what a draft gets right, and tells whether one interpretation of it fits better than another.

Acceptance alone is too blunt: of a well-trained pair, capturing a neighbouring layer may cost a few percent. The probability of
the target's tokens moves much more, so interpretations are compared by log-likelihood, prompt by prompt. A wrong one could pass
for a better one only by being less sure of itself; so each is scored at its best temperature.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
# A draft below either is degraded. For comparison: the demo's draft 0.87 and 5.4; weak published ones 0.40 and 1.6.
LEAST_FIRST, LEAST_LENGTH = 0.4, 1.6


@dataclass
class GuessCounts:
    """Counts over rows, by position.

    Attributes:
        rows: rows whose answer is that long.
        right: of those, rows whose guesses up to here are all right.
        certainty: sum of the probabilities that the first guesses were made with.
        log_likelihood: (temperatures,) of the target's tokens, summed over rows and positions.
    """

    rows: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    certainty: float = 0.0
    log_likelihood: Tensor = field(default_factory=lambda: torch.zeros(len(TEMPERATURES)))

    @property
    def by_position(self) -> list[float]:
        """P(i-th guess accepted), unconditional, i = 1.."""
        return [right / rows if rows else 0.0 for right, rows in zip(self.right, self.rows, strict=True)]

    @property
    def first(self) -> float:
        """Of the first position."""
        return self.by_position[0] if self.rows else 0.0

    @property
    def length(self) -> float:
        """The acceptance length of a chain of this many guesses, bonus token included."""
        return 1.0 + sum(self.by_position)

    @property
    def confidence(self) -> float:
        """Mean probability of the first guess."""
        return self.certainty / self.rows[0] if self.rows and self.rows[0] else 0.0

    @property
    def is_degraded(self) -> bool:
        """Whether so little is accepted that something must be wrong."""
        return self.first < LEAST_FIRST or self.length < LEAST_LENGTH

    def __add__(self, other: "GuessCounts") -> "GuessCounts":
        if not self.rows or not other.rows:
            return self if self.rows else other
        rows, right = (
            [a + b for a, b in zip(ours, theirs, strict=True)]
            for ours, theirs in ((self.rows, other.rows), (self.right, other.right))
        )
        return GuessCounts(rows, right, self.certainty + other.certainty, self.log_likelihood + other.log_likelihood)


@dataclass
class Measured:
    """One interpretation on all cases, in order."""

    cases: list[GuessCounts]

    @property
    def total(self) -> GuessCounts:
        """Over all cases."""
        return sum(self.cases, GuessCounts())

    def of(self, chosen: list[bool]) -> "Measured":
        """Of some of the cases."""
        return Measured([case for case, take in zip(self.cases, chosen, strict=True) if take])

    @property
    def scores(self) -> Tensor:
        """(cases,) mean log-likelihood of a token, at the temperature that is best over all."""
        sums = torch.stack([case.log_likelihood for case in self.cases]).double()
        counts = torch.tensor([max(sum(case.rows), 1) for case in self.cases])
        best = sums.sum(0).nan_to_num(-torch.inf, -torch.inf, -torch.inf).argmax()
        return sums[:, best] / counts

    def gain_over(self, other: "Measured") -> tuple[float, float]:
        """(nats per token, in standard errors over prompts) by which this interpretation is better than the other."""
        gains = (self.scores - other.scores).nan_to_num(-100.0)
        spread = gains.std() if len(gains) > 1 else gains.new_tensor(torch.inf)
        return float(gains.mean()), float(gains.mean() / (spread / len(gains) ** 0.5 + 1e-6))
