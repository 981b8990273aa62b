"""Answers written side by side: what plain and speculative decoding have in common.

One cycle is one forward of the target, and everything in it stays on the device. The host learns what was committed from one
small tensor per cycle (`generate.py`); nothing else waits for it. All state is updated in place, and no step depends on a value
that the host would have to read, so that a GPU can replay the whole cycle as one recorded graph (`graphs.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_eagle.decoding.acceptance import VerifyResult
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.graphs import RecordedCycles
from vlm_eagle.decoding.options import TreeShape
from vlm_eagle.decoding.prompt_cache import CachedTokens
from vlm_eagle.decoding.sampling import Sampler, uniform_numbers
from vlm_eagle.decoding.state import State
from vlm_eagle.records import Batch
from vlm_eagle.target.kv_cache import SeqLens, TreeKVCache
from vlm_eagle.target.target import Prefilled, Target

NO_DRAFT = TreeShape(1)
_CAPACITY_STEP = 256  # capacities are multiples of it, so that prompts of similar length find the same buffers


class DecodeLoop(ABC):
    """B answers, each growing at its own pace; `plain.py` and `speculative.py` say what a cycle does.

    Buffers and recorded graphs live as long as the decoder: use one for many prompts. A single prompt that begins like what the
    caches hold reads only the rest (`reset_cache` prevents it).
    """

    drafter: Drafter | None = None

    def __init__(self, target: Target, sampler: Sampler, shape: TreeShape = NO_DRAFT):
        self.target, self.sampler, self.shape = target, sampler, shape
        self.cache = TreeKVCache(target.config.num_hidden_layers, 0)
        self.cached = CachedTokens()
        self.uniforms = torch.empty(0)  # (B, cycles, per cycle), of the current prompts
        self.cycles = 0  # since the prompt
        self._state: State | None = None
        self.recorded = RecordedCycles() if target.device.type == "cuda" else None

    @property
    def state(self) -> State:
        """Only after a prompt has been read."""
        assert self._state is not None
        return self._state

    def reset_cache(self) -> None:
        """The next prompt is read from its beginning."""
        self.cached.clear()

    @torch.no_grad()
    def prefill(self, prompt: Batch, max_new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Reads the prompts (or what is new of one) and chooses each answer's first token: (B,) int64."""
        not_in_draft = int(self._state.counts[0]) if self._state else 0
        start = self.cached.reusable(prompt, self.target.model.config, not_in_draft)
        self.cached.clear()  # until all of it is read: what an interruption leaves in the caches is unknown
        self._reserve(prompt, max_new_tokens)
        # a cycle uses numbers for the target's draws, for keeping drawn drafts, and for drawing them
        per_cycle = 0 if self.sampler.greedy else 3 * self.shape.num_draft_tokens
        self.uniforms, self.cycles = uniform_numbers(seeds, max_new_tokens, per_cycle, self.target.device), 0
        read = self._read(prompt, start)
        root = self.sampler(read.logits, self.uniforms[:, 0, 0] if per_cycle else None)
        hidden = self._read_with_draft(prompt, start, read, root)
        self._set_state(State.after_prompt(read, root, hidden, self.uniforms[:, 0], self.shape))
        self.cached.set(prompt, read.lengths, root)
        return root

    @torch.no_grad()
    def cycle(self, active: Tensor) -> VerifyResult:
        """One forward for every sequence; where `active` (B,) is false the answer is finished. The result's tensors are the
        state's own: the next cycle overwrites them."""
        self.cycles += 1
        state, max_length = self.state, self.cached.max_length
        state.active.copy_(active, non_blocking=True)
        state.uniform.copy_(self.uniforms[:, self.cycles])
        if self.recorded:
            self.recorded.run(lambda bound: self._advance(state.seq_lens(bound)), max_length, state.tensors())
        else:
            self._advance(state.seq_lens(max_length))
        return state.result

    def on_commit(self, committed: list[list[int]]) -> None:
        """The host has read what a cycle committed, by sequence."""
        self.cached.append(committed)

    @abstractmethod
    def _advance(self, seqs: SeqLens) -> None:
        """The cycle, from state to state."""

    def _read(self, prompt: Batch, start: int) -> Prefilled:
        return self.target.prefill(prompt, self.cache, start, aux=False)

    def _read_with_draft(self, prompt: Batch, start: int, read: Prefilled, root: Tensor) -> Tensor | None:
        return None

    def _set_state(self, new: State) -> None:
        if self._state is not None and self._state.fits(new):
            self._state.copy_(new)
            return
        self._state = new
        if self.recorded:
            self.recorded.clear()

    def _reserve(self, prompt: Batch, max_new_tokens: int) -> None:
        """Caches for these prompts and their answers; those that are large enough stay."""
        if self._state is None or len(self._state.root) != len(prompt):  # None also after an interrupted prompt
            self._state, self.cache = None, TreeKVCache(self.target.config.num_hidden_layers, 0)
            if self.drafter:
                self.drafter.reset()
        length = prompt.input_ids.shape[1] + max_new_tokens + self.shape.depth + self.shape.num_draft_tokens
        capacity = -(-length // _CAPACITY_STEP) * _CAPACITY_STEP
        if capacity > self.cache.capacity:
            self.cache.reserve(capacity)
            if self.drafter:
                self.drafter.reserve(capacity)
            if self.recorded:
                self.recorded.clear()
