"""What a training run reports of a draft: acceptance by step, and the acceptance length it promises."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass
class StepAcceptance:
    """Counts by TTT step: `correct[k]` of `rows[k]` rows agree with the target's argmax. Rows whose argmax is outside the
    draft vocabulary count as rejected."""

    correct: Tensor
    rows: Tensor

    @classmethod
    def zeros(cls, ttt_length: int) -> "StepAcceptance":
        """No rows yet."""
        return cls(torch.zeros(ttt_length, dtype=torch.long), torch.zeros(ttt_length, dtype=torch.long))

    def add(self, correct: Tensor, rows: Tensor) -> None:
        """Adds one batch's counts, each (S,)."""
        self.correct += correct.cpu()
        self.rows += rows.cpu()

    @property
    def by_step(self) -> Tensor:
        """(S,) conditional acceptance at every step."""
        return self.correct / self.rows.clamp_min(1)

    @property
    def simulated_acceptance_length(self) -> float:
        """1 + sum_k prod_{j <= k} acceptance_j: tau of a chain of S drafted tokens if steps were independent."""
        return 1.0 + float(self.by_step.cumprod(0).sum())


def over_ranks(accelerator: Accelerator, acceptance: StepAcceptance, *numbers: float) -> tuple:
    """(acceptance, *numbers), each summed over all ranks."""
    own = torch.cat([acceptance.correct.double(), acceptance.rows.double(), torch.tensor(numbers, dtype=torch.float64)])
    alone = accelerator.num_processes == 1  # its device need not know float64 then
    totals = own if alone else torch.as_tensor(accelerator.reduce(own.to(accelerator.device), "sum")).cpu()
    n = len(acceptance.rows)
    return StepAcceptance(totals[:n].long(), totals[n : 2 * n].long()), *totals[2 * n :].tolist()
