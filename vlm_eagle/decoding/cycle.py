"""The speculative cycle: grow a tree, verify it in one target forward, commit. Everything here stays on the device.

The host learns what was committed by reading one small tensor per cycle (`generate.py`); nothing else waits for it. All state
is updated in place and no step depends on a value the host would have to read, so that a GPU can replay the whole cycle as one
recorded graph (`graphs.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.graphs import RecordedCycles
from vlm_eagle.decoding.rejection import accept_drawn
from vlm_eagle.decoding.sampling import Sampler, Uniforms
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import Verdict, accept
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch, ImageInputs
from vlm_eagle.target.cache import TreeCache
from vlm_eagle.target.prefix import common_prefix, image_digests, image_spans
from vlm_eagle.target.target import Prefilled, Target

ROOT_ALONE = TreeShape(1)
_ROOM_STEP = 256  # capacities are multiples of it, so that prompts of like length find the same buffers


@dataclass
class State:
    """What a cycle reads and writes besides the caches, always in the same tensors.

    Attributes:
        lengths: (B,) int64, committed entries in the target's cache.
        rope_delta: (B,) int64.
        root: (B,) int64.
        going: (B,) bool; where false the answer is finished and nothing is committed.
        uniform: (B, per cycle) float64, this cycle's random numbers; empty when greedy.
        aux_hidden: (B, P, 3 * D_target) of the tokens committed last, not yet in the draft's cache.
        committed: (B, P) int64, these tokens.
        counts: (B,) int64, how many of them are real; 0 right after a prompt.
    """

    lengths: Tensor
    rope_delta: Tensor
    root: Tensor
    going: Tensor
    uniform: Tensor
    aux_hidden: Tensor
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


class Decoder:
    """B answers being written side by side, each at its own pace. Without a draft every tree is its root alone, which is the
    plain token-by-token decoding that a draft is measured against.

    Buffers and recorded graphs live as long as it does: use one for many prompts. A single prompt that begins like what the
    caches hold reads only the rest (`forget` prevents it).
    """

    def __init__(
        self, target: Target, draft: Eagle3Draft | None, shape: TreeShape, sampler: Sampler, *,
        drawn_drafts: bool = False, image_inputs: ImageInputs = "token",
    ):  # fmt: skip
        self.target, self.sampler, self.drawn_drafts, self.image_inputs = target, sampler, drawn_drafts, image_inputs
        if draft is not None and draft.config.own_embeddings and image_inputs == "merged":
            raise UserError(
                "This draft brings its own embeddings and cannot read the target's visual ones. Set image_inputs to token."
            )
        self.shape = shape if draft is not None else ROOT_ALONE
        self.cache = TreeCache(target.config.num_hidden_layers, 0)
        self.drafter = Drafter(draft, target.embed_tokens, self.shape, 0) if draft is not None else None
        self.state: State | None = None
        self.known: list[list[int]] = []  # what each sequence's cache was made from, the root included
        self.images: list[str] = []
        self.longest = 0  # committed entries of the longest sequence, as far as the host knows
        self.tree: DraftTree | None = None  # of the last cycle, for those who measure
        self.recorded = RecordedCycles() if target.device.type == "cuda" else None

    def forget(self) -> None:
        """The next prompt is read from its beginning."""
        self.known = []

    @torch.no_grad()
    def read(self, prompt: Batch, max_new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Reads the prompts (or what is new of one) and chooses each answer's first token: (B,) int64."""
        start = self._in_cache(prompt)
        self.known = []  # until all of it is read: an interruption leaves caches that nobody can describe
        self.longest = prompt.input_ids.shape[1]
        self._reserve(len(prompt), self.longest + max_new_tokens + self.shape.num_steps + self.shape.num_draft_tokens)
        # a cycle takes numbers for the target's draws, for keeping drawn drafts, and for drawing them
        per_cycle = 0 if self.sampler.greedy else 3 * self.shape.num_draft_tokens
        self.uniforms = Uniforms(seeds, max_new_tokens, per_cycle, self.target.device)
        self.cycles = 0
        merged = self.image_inputs == "merged" and self.drafter is not None and bool(prompt.pixels)
        read = self.target.prefill(prompt, self.cache, start, embeddings=merged)
        root = self.sampler(read.logits, self.uniforms[0][:, 0] if per_cycle else None)
        self._begin(read, root)
        if self.drafter:
            next_tokens = prompt.input_ids.roll(-1, 1).scatter(1, read.lengths[:, None] - 1, root[:, None])
            embedding = self.drafter.embed_tokens(next_tokens[:, start:])
            if merged:
                visual = F.pad(self.target.visual_mask(prompt)[:, 1:], (0, 1))[:, start:, None].to(embedding.device)
                embedding = F.pad(read.embeddings[:, 1:], (0, 0, 0, 1)).to(embedding.device).where(visual, embedding)
            self.drafter.read(read.aux_hidden, embedding, read.lengths, start, read.positions, read.rope_delta)
        self.images = image_digests(prompt) if len(prompt) == 1 else []
        lengths, roots = read.lengths.tolist(), root.tolist()
        self.known = [[*row[:n], r] for row, n, r in zip(prompt.input_ids.tolist(), lengths, roots, strict=True)]
        return root

    @torch.no_grad()
    def cycle(self, going: Tensor) -> Verdict:
        """One tree for every sequence; where `going` (B,) is false the answer is finished. The verdict's tensors are the
        state's own: the next cycle overwrites them."""
        self.cycles += 1
        self.state.going.copy_(going, non_blocking=True)
        self.state.uniform.copy_(self.uniforms[self.cycles])
        if self.recorded:
            self.recorded.run(self._on_device, self.longest, self._in_place())
        else:
            self._on_device(self.longest)
        return Verdict(self.path, self.state.committed, self.state.counts)

    def note(self, committed: list[list[int]]) -> None:
        """The host has read what a cycle committed, by sequence."""
        for row, tokens in zip(self.known, committed, strict=True):
            row += tokens
            self.longest = max(self.longest, len(row) - 1)

    def _on_device(self, longest: int) -> None:
        """The cycle, from state to state. `longest` is at least the longest sequence's committed entries."""
        state = self.state
        tree = self.tree = self._grow(longest)
        logits, aux_hidden = self.target.verify(
            self.cache, tree.tokens, tree.depths, tree.ancestors, state.lengths, longest, state.rope_delta
        )
        verdict = self._judge(tree, logits)
        counts = verdict.counts * state.going
        if not self.shape.is_chain:
            self.cache.keep(state.lengths, verdict.path)
        if self.drafter:
            path = verdict.path[..., None].expand(-1, -1, aux_hidden.shape[2]).to(aux_hidden.device)
            state.aux_hidden.copy_(aux_hidden.gather(1, path))
        last = (counts - 1).clamp_min(0)[:, None]
        state.root.copy_(torch.where(state.going, verdict.committed.gather(1, last)[:, 0], state.root))
        state.lengths.add_(counts)
        state.counts.copy_(counts)
        state.committed = self._same_or_new(state.committed, verdict.committed)
        self.path = verdict.path

    def _in_place(self) -> list[Tensor]:
        """The tensors that a cycle changes, caches aside."""
        return self.state.tensors() + ([self.drafter.hidden] if self.drafter else [])

    def _grow(self, longest: int) -> DraftTree:
        state = self.state
        if self.drafter is None:
            return DraftTree.from_parents(state.root[:, None], torch.full_like(state.root[:, None], -1), 0)
        self.drafter.extend(state.aux_hidden, state.committed, state.lengths - state.counts, state.counts, longest)
        sampler = self.sampler if self.drawn_drafts else None
        uniform = state.uniform[:, 2 * self.shape.num_draft_tokens :]
        return self.drafter.grow(state.root, state.lengths, longest, sampler, uniform)

    def _judge(self, tree: DraftTree, logits: Tensor) -> Verdict:
        uniform = self.state.uniform
        if tree.proposals is not None:
            return accept_drawn(tree, self.sampler.probabilities(logits), self.drafter.draft.target_ids, uniform)
        return accept(tree, self.sampler(logits, None if self.sampler.greedy else uniform[:, : len(tree)]))

    @staticmethod
    def _same_or_new(buffer: Tensor, value: Tensor) -> Tensor:
        """`value` in the buffer; trees of varying depth (prompt lookup) get a new one."""
        return buffer.copy_(value) if buffer.shape == value.shape else value

    def _begin(self, read: Prefilled, root: Tensor) -> None:
        """The state right after a prompt, in the old tensors if they fit."""
        b, p = len(root), self.shape.num_steps + 1
        width = read.aux_hidden.shape[2] if self.drafter else 0
        fresh = State(
            lengths=read.lengths.clone(), rope_delta=read.rope_delta.clone(), root=root.clone(),
            uniform=self.uniforms[0].clone(), going=torch.ones(b, dtype=torch.bool, device=root.device),
            aux_hidden=read.aux_hidden.new_zeros(b, p, width),
            committed=root.new_zeros(b, p), counts=torch.zeros_like(root),
        )  # fmt: skip
        if self.state is not None and self.state.fits(fresh):
            self.state.copy_(fresh)
        else:
            self.state = fresh
            if self.recorded:
                self.recorded.clear()

    def _in_cache(self, prompt: Batch) -> int:
        """How many of a prompt's positions need not be read again. The last known one is always read: its aux hidden states
        make the draft's row that looks at what follows."""
        if len(prompt) != 1 or len(self.known) != 1:
            return 0
        common = common_prefix(prompt, self.target.model.config, self.known[0], self.images)
        in_draft = len(self.known[0]) - 1 - int(self.state.counts[0])
        start = min(common - 1, in_draft, prompt.input_ids.shape[1] - 1)
        inside = [first for first, end in image_spans(prompt, self.target.model.config) if first < start < end]
        return max(inside[0] if inside else start, 0)

    def _reserve(self, rows: int, capacity: int) -> None:
        """Caches for this many sequences and entries; those that are large enough stay."""
        capacity = -(-capacity // _ROOM_STEP) * _ROOM_STEP
        if self.state is not None and len(self.state.root) != rows:
            self.cache, self.state = TreeCache(self.target.config.num_hidden_layers, capacity), None
            if self.drafter:
                self.drafter = Drafter(self.drafter.draft, self.target.embed_tokens, self.shape, capacity)
        if capacity > self.cache.capacity:
            self.cache.reserve(capacity)
            if self.drafter:
                self.drafter.reserve(capacity)
            if self.recorded:
                self.recorded.clear()
