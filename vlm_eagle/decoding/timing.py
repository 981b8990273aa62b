"""Where the time of a cycle goes: the two models' forwards by part, and everything around them."""

import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.devices import wait_for
from vlm_eagle.records import Batch


@dataclass(frozen=True)
class CycleCost:
    """Seconds of one cycle.

    Attributes:
        verify: the target's forward over the tree, its lm_head included.
        extend: the draft's forward over newly committed tokens.
        draft: the draft's forwards that grow the tree, all levels, lm_head included.
        overhead: everything outside the two models: masks, choice of nodes, acceptance, caches, the host's read.
    """

    verify: float
    extend: float
    draft: float
    overhead: float

    @property
    def total(self) -> float:
        """Seconds."""
        return self.verify + self.extend + self.draft + self.overhead

    def ratios(self, step: float) -> dict[str, float]:
        """Each part in plain decode steps of `step` seconds: r_verify, r_extend, r_draft (all levels), r_overhead."""
        return {f"r_{name}": getattr(self, name) / step for name in ("verify", "extend", "draft", "overhead")}


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has finished its work."""
    wait_for(device)
    return time.perf_counter()


class ForwardTimer:
    """Context manager: adds up the seconds spent inside a decoder's two models, by hooks that wait for the device."""

    def __init__(self, decoder: DecodeLoop):
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.device, self._handles, self._started = decoder.target.device, [], 0.0
        self._extending = False
        target, drafter = decoder.target, decoder.drafter
        self._parts: list[tuple[nn.Module, str]] = [(target.decoder, "verify"), (target.model.lm_head, "verify")]
        if drafter:
            draft = drafter.draft
            self._parts += [(draft.fc, "extend"), (draft.midlayer, "draft"), (draft.norm, "draft"), (draft.lm_head, "draft")]

    def __enter__(self) -> "ForwardTimer":
        for module, part in self._parts:
            self._handles.append(module.register_forward_pre_hook(self._start))
            self._handles.append(module.register_forward_hook(self._stop(part)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def now(self) -> float:
        """See `now`."""
        return now(self.device)

    def _start(self, *_: object) -> None:
        self._started = self.now()

    def _stop(self, part: str):
        def hook(*_: object) -> None:
            # the decoder layer right after fc reads committed tokens; later ones grow the tree
            actual = "extend" if part == "extend" or (part == "draft" and self._extending) else part
            self._extending = part == "extend"
            self.seconds[actual] += self.now() - self._started

        return hook


def measure_cycles(decoder: DecodeLoop, prompt: Batch, cycles: int, warm_up: int = 2) -> CycleCost:
    """Medians over `cycles` real cycles after a prompt (end tokens do not stop them; the first ones are warm-up)."""
    new = (cycles + warm_up) * (decoder.shape.depth + 1) + 1
    decoder.prefill(prompt, new, list(range(len(prompt))))
    active = torch.ones(len(prompt), dtype=torch.bool, device=decoder.target.device)
    costs = []
    for number in range(cycles + warm_up):
        with ForwardTimer(decoder) as timer:
            start = timer.now()
            decoder.on_commit(decoder.cycle(active).to_host())
            total = timer.now() - start
        if number >= warm_up:
            parts = [timer.seconds[name] for name in ("verify", "extend", "draft")]
            costs.append((*parts, total - sum(parts)))
    return CycleCost(*(median(column) for column in zip(*costs, strict=True)))
