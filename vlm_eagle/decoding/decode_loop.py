"""Answers written side by side: what plain and speculative decoding have in common.

One cycle is one forward of the target; everything in it stays on the device. The host learns what was committed by reading one
small tensor per cycle (`generate.py`); nothing else waits for it. All state is updated in place and no step depends on a value
the host would have to read, so that a GPU can replay the whole cycle as one recorded graph (`graphs.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vlm_eagle.decoding.acceptance import VerifyResult
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.graphs import RecordedCycles
from vlm_eagle.decoding.sampling import Sampler, Uniforms
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.records import Batch
from vlm_eagle.target.kv_cache import TreeKVCache
from vlm_eagle.target.prefix import common_prefix, image_digests, image_spans
from vlm_eagle.target.target import Prefilled, Target

NO_DRAFT = TreeShape(1)
_CAPACITY_STEP = 256  # capacities are multiples of it, so that prompts of like length find the same buffers


@dataclass
class State:
    """What a cycle reads and writes besides the caches, always in the same tensors.

    Attributes:
        lengths: (B,) int64, committed entries in the target's cache.
        rope_delta: (B,) int64.
        root: (B,) int64.
        active: (B,) bool; where false the answer is finished and nothing is committed.
        uniform: (B, per cycle) float64, this cycle's random numbers; empty when greedy.
        aux_hidden: (B, P, 3 * D_target) of the tokens committed last, not yet in the draft's cache; (B, P, 0) without a draft.
        path: (B, P) int64, the nodes accepted last, root first.
        committed: (B, P) int64, the tokens committed last.
        counts: (B,) int64, how many of them are real; 0 right after a prompt.
    """

    lengths: Tensor
    rope_delta: Tensor
    root: Tensor
    active: Tensor
    uniform: Tensor
    aux_hidden: Tensor
    path: Tensor
    committed: Tensor
    counts: Tensor

    def tensors(self) -> list[Tensor]:
        """All of them, in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def fits(self, other: "State") -> bool:
        """Whether `other` could be copied into this one."""
        return all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(self.tensors(), other.tensors(), strict=True))

    def copy_(self, other: "State") -> None:
        """Overwrites this state in place."""
        for own, new in zip(self.tensors(), other.tensors(), strict=True):
            own.copy_(new)


class DecodeLoop(ABC):
    """B answers being written side by side, each at its own pace; `plain.py` and `speculative.py` say what a cycle does.

    Buffers and recorded graphs live as long as it does: use one for many prompts. A single prompt that begins like what the
    caches hold reads only the rest (`reset_cache` prevents it).
    """

    drafter: Drafter | None = None
    uniforms: Uniforms  # since `prefill`

    def __init__(self, target: Target, sampler: Sampler, shape: TreeShape = NO_DRAFT):
        self.target, self.sampler, self.shape = target, sampler, shape
        self.cache = TreeKVCache(target.config.num_hidden_layers, 0)
        self._state: State | None = None
        self.cycles = 0  # since the prompt
        self.cached_tokens: list[list[int]] = []  # what each sequence's cache was made from, the root included
        self.images: list[str] = []
        self.max_seq_len = 0  # committed entries of the longest sequence, as far as the host knows
        self.recorded = RecordedCycles() if target.device.type == "cuda" else None

    @property
    def state(self) -> State:
        """Once a prompt was read."""
        assert self._state is not None
        return self._state

    def reset_cache(self) -> None:
        """The next prompt is read from its beginning."""
        self.cached_tokens = []

    @torch.no_grad()
    def prefill(self, prompt: Batch, max_new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Reads the prompts (or what is new of one) and chooses each answer's first token: (B,) int64."""
        start = self._in_cache(prompt)
        self.cached_tokens = []  # until all of it is read: an interruption leaves caches that nobody can describe
        self.max_seq_len = prompt.input_ids.shape[1]
        self._reserve(len(prompt), self.max_seq_len + max_new_tokens + self.shape.depth + self.shape.num_draft_tokens)
        # a cycle takes numbers for the target's draws, for keeping drawn drafts, and for drawing them
        per_cycle = 0 if self.sampler.greedy else 3 * self.shape.num_draft_tokens
        self.uniforms, self.cycles = Uniforms(seeds, max_new_tokens, per_cycle, self.target.device), 0
        read = self._prefill_target(prompt, start)
        root = self.sampler(read.logits, self.uniforms[0][:, 0] if per_cycle else None)
        self._begin_answers(prompt, start, read, root)
        self.images = image_digests(prompt) if len(prompt) == 1 else []
        lengths, roots = read.lengths.tolist(), root.tolist()
        self.cached_tokens = [[*row[:n], r] for row, n, r in zip(prompt.input_ids.tolist(), lengths, roots, strict=True)]
        return root

    @torch.no_grad()
    def cycle(self, active: Tensor) -> VerifyResult:
        """One forward for every sequence; where `active` (B,) is false the answer is finished. The verdict's tensors are the
        state's own: the next cycle overwrites them."""
        self.cycles += 1
        self.state.active.copy_(active, non_blocking=True)
        self.state.uniform.copy_(self.uniforms[self.cycles])
        if self.recorded:
            self.recorded.run(self._advance, self.max_seq_len, self._in_place())
        else:
            self._advance(self.max_seq_len)
        return VerifyResult(self.state.path, self.state.committed, self.state.counts)

    def on_commit(self, committed: list[list[int]]) -> None:
        """The host has read what a cycle committed, by sequence."""
        for row, tokens in zip(self.cached_tokens, committed, strict=True):
            row += tokens
            self.max_seq_len = max(self.max_seq_len, len(row) - 1)

    @abstractmethod
    def _advance(self, max_seq_len: int) -> None:
        """The cycle, from state to state. `max_seq_len` is at least the longest sequence's committed entries."""

    def _prefill_target(self, prompt: Batch, start: int) -> Prefilled:
        return self.target.prefill(prompt, self.cache, start, aux=False)

    def _in_place(self) -> list[Tensor]:
        """The tensors that a cycle changes, caches aside."""
        return self.state.tensors()

    def _begin_answers(self, prompt: Batch, start: int, read: Prefilled, root: Tensor) -> None:
        """The state right after a prompt, in the old tensors if they fit."""
        b, p = len(root), self.shape.depth + 1
        width = 0 if read.aux_hidden is None else read.aux_hidden.shape[2]
        like = read.logits if read.aux_hidden is None else read.aux_hidden
        fresh = State(
            lengths=read.lengths.clone(),
            rope_delta=read.rope_delta.clone(),
            root=root.clone(),
            active=torch.ones(b, dtype=torch.bool, device=root.device),
            uniform=self.uniforms[0].clone(),
            aux_hidden=like.new_zeros(b, p, width),
            path=root.new_zeros(b, p),
            committed=root.new_zeros(b, p),
            counts=torch.zeros_like(root),
        )
        if self._state is not None and self._state.fits(fresh):
            self._state.copy_(fresh)
        else:
            self._state = fresh
            if self.recorded:
                self.recorded.clear()

    def _in_cache(self, prompt: Batch) -> int:
        """How many of a prompt's positions need not be read again. The last known one is always read: its aux hidden states
        make the draft's row that looks at what follows."""
        if len(prompt) != 1 or len(self.cached_tokens) != 1:
            return 0
        common = common_prefix(prompt, self.target.model.config, self.cached_tokens[0], self.images)
        in_draft = len(self.cached_tokens[0]) - 1 - int(self.state.counts[0])
        start = min(common - 1, in_draft, prompt.input_ids.shape[1] - 1)
        inside = [first for first, end in image_spans(prompt, self.target.model.config) if first < start < end]
        return max(inside[0] if inside else start, 0)

    def _reserve(self, rows: int, capacity: int) -> None:
        """Caches for this many sequences and entries; those that are large enough stay."""
        if self._other_rows(rows):
            self._state, self.cache = None, TreeKVCache(self.target.config.num_hidden_layers, 0)
        capacity = -(-capacity // _CAPACITY_STEP) * _CAPACITY_STEP
        if capacity > self.cache.capacity:
            self.cache.reserve(capacity)
            if self.recorded:
                self.recorded.clear()

    def _other_rows(self, rows: int) -> bool:
        """Whether the caches are for another number of sequences."""
        return self._state is not None and len(self._state.root) != rows
