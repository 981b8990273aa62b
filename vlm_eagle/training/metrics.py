"""What a training run reports of a draft: acceptance by step, and the acceptance length it promises."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from vlm_eagle.devices import has_float64


@dataclass
class StepAcceptance:
    """Counts by TTT step: `correct[k]` of `rows[k]` rows agree with the target's argmax. Rows whose argmax is outside the
    draft vocabulary count as rejected."""

    correct: Tensor
    rows: Tensor

    @classmethod
    def zeros(cls, ttt_length: int, device: torch.device | str = "cpu") -> "StepAcceptance":
        """No rows yet."""
        return cls(*torch.zeros(2, ttt_length, dtype=torch.long, device=device).unbind())

    def add(self, correct: Tensor, rows: Tensor) -> None:
        """Adds one batch's counts, each (S,), on the device that they are on."""
        self.correct += correct
        self.rows += rows

    @property
    def by_step(self) -> Tensor:
        """(S,) conditional acceptance at every step."""
        return self.correct / self.rows.clamp_min(1)

    @property
    def simulated_acceptance_length(self) -> float:
        """1 + sum_k prod_{j <= k} acceptance_j: tau of a chain of S drafted tokens if steps were independent."""
        return 1.0 + float(self.by_step.cumprod(0).sum())


def sum_dtype(device: torch.device) -> torch.dtype:
    """For sums over many batches."""
    return torch.float64 if has_float64(device) else torch.float32


def over_ranks(
    accelerator: Accelerator, acceptance: StepAcceptance, numbers: Sequence[Tensor | float], alike: Sequence[Tensor] = ()
) -> tuple[StepAcceptance, list[float], list[float]]:
    """(acceptance, numbers), each summed over all ranks, and `alike`, which are the same on all; on the host, with a single
    read from the device."""
    device, n = acceptance.rows.device, len(acceptance.rows)
    dtype = sum_dtype(device)
    values = [torch.as_tensor(value, dtype=dtype, device=device).flatten() for value in (*numbers, *alike)]
    own = torch.cat([acceptance.correct.to(dtype), acceptance.rows.to(dtype), *values[: len(numbers)]])
    totals = own if accelerator.num_processes == 1 else torch.as_tensor(accelerator.reduce(own, "sum"))
    found: list[float] = torch.cat([totals, *values[len(numbers) :]]).tolist()
    correct, rows = (
        torch.tensor(found[:n], dtype=torch.float64).long(),
        torch.tensor(found[n : 2 * n], dtype=torch.float64).long(),
    )
    return StepAcceptance(correct, rows), found[2 * n : 2 * n + len(numbers)], found[2 * n + len(numbers) :]
