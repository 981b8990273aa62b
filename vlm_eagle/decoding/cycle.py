"""The speculative cycle: grow a tree, verify it in one target forward, commit. Everything here stays on the device.

The host learns what was committed by reading one small tensor per cycle (`generate.py`); nothing else waits for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.rejection import accept_drawn
from vlm_eagle.decoding.sampling import Sampler, Uniforms
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import Verdict, accept
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import Batch
from vlm_eagle.target.cache import TreeCache
from vlm_eagle.target.prefix import common_prefix, image_digests, image_spans
from vlm_eagle.target.target import Target

ROOT_ALONE = TreeShape(1)


class Decoder:
    """B answers being written side by side, each at its own pace. Without a draft every tree is its root alone, which is the
    plain token-by-token decoding that a draft is measured against.

    Its caches live as long as it does: reading a prompt that begins like what one sequence holds reads only the rest.
    """

    def __init__(
        self, target: Target, draft: Eagle3Draft | None, shape: TreeShape, sampler: Sampler, *, drawn_drafts: bool = False
    ):
        self.target, self.sampler, self.drawn_drafts = target, sampler, drawn_drafts
        self.shape = shape if draft is not None else ROOT_ALONE
        self.cache = TreeCache(target.config.num_hidden_layers, 0)
        self.drafter = Drafter(draft, target.embed_tokens, self.shape, 0) if draft is not None else None
        self.known: list[list[int]] = []  # what each sequence's cache was made from, the root included
        self.images: list[str] = []
        self.tree: DraftTree | None = None  # of the last cycle, for those who measure

    @property
    def uniforms_per_cycle(self) -> int:
        """Random numbers that one cycle takes per sequence."""
        return 3 * self.shape.num_draft_tokens

    @torch.no_grad()
    def read(self, prompt: Batch, max_new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Reads the prompts (or what is new of one) and chooses each answer's first token: (B,) int64."""
        start = self._in_cache(prompt)
        self.longest = prompt.input_ids.shape[1]
        capacity = self.longest + max_new_tokens + self.shape.num_steps + self.shape.num_draft_tokens
        if not start:
            self._forget(capacity)
        self.cache.reserve(capacity)
        device = self.target.device
        self.uniforms = None if self.sampler.greedy else Uniforms(seeds, max_new_tokens, self.uniforms_per_cycle, device)
        self.cycles = 0
        state = self.target.prefill(prompt, self.cache, start)
        self.lengths, self.rope_delta = state.lengths, state.rope_delta
        self.root = self.sampler(state.logits, self._uniform()[:, 0] if self.uniforms else None)
        self.pending: tuple[Tensor, Verdict] | None = None
        if self.drafter:
            self.drafter.reserve(capacity)
            next_tokens = prompt.input_ids.roll(-1, 1).scatter(1, self.lengths[:, None] - 1, self.root[:, None])
            self.drafter.read(state.aux_hidden, next_tokens[:, start:], self.lengths, start)
        self.images = image_digests(prompt) if len(prompt) == 1 else []
        self.known = [row[:n] for row, n in zip(prompt.input_ids.tolist(), self.lengths.tolist(), strict=True)]
        for row, token in zip(self.known, self.root.tolist(), strict=True):
            row.append(token)
        return self.root

    @torch.no_grad()
    def cycle(self, going: Tensor) -> Verdict:
        """One tree for every sequence. Where `going` (B,) is false the answer is finished and nothing is committed."""
        uniform = self._uniform() if self.uniforms else None
        tree = self.tree = self._grow(uniform)
        logits, aux_hidden = self.target.verify(
            self.cache, tree.tokens, tree.depths, tree.ancestors, self.lengths, self.longest, self.rope_delta
        )
        verdict = self._judge(tree, logits, uniform)
        counts = verdict.counts * going
        verdict = Verdict(verdict.path, verdict.committed, counts)
        if not self.shape.is_chain:
            self.cache.keep(self.lengths, verdict.path)
        path = verdict.path[..., None].expand(-1, -1, aux_hidden.shape[2]).to(aux_hidden.device)
        self.pending = aux_hidden.gather(1, path).to(counts.device), verdict
        self.lengths = self.lengths + counts
        last = (counts - 1).clamp_min(0)[:, None]
        self.root = torch.where(going, verdict.committed.gather(1, last)[:, 0], self.root)
        return verdict

    def note(self, committed: list[list[int]]) -> None:
        """The host has read what a cycle committed, by sequence."""
        for row, tokens in zip(self.known, committed, strict=True):
            row += tokens
            self.longest = max(self.longest, len(row) - 1)

    def _grow(self, uniform: Tensor | None) -> DraftTree:
        if self.drafter is None:
            return DraftTree.from_parents(self.root[:, None], torch.full_like(self.root[:, None], -1), 0)
        if self.pending is not None:
            aux_hidden, verdict = self.pending
            self.drafter.extend(aux_hidden, verdict.committed, self.lengths - verdict.counts, verdict.counts, self.longest)
        n = self.shape.num_draft_tokens
        sampler = self.sampler if self.drawn_drafts else None
        return self.drafter.grow(self.root, self.lengths, self.longest, sampler, uniform[:, 2 * n :] if sampler else None)

    def _judge(self, tree: DraftTree, logits: Tensor, uniform: Tensor | None) -> Verdict:
        if tree.proposals is not None:
            return accept_drawn(tree, self.sampler.probabilities(logits), self.drafter.draft.target_ids, uniform)
        return accept(tree, self.sampler(logits, uniform[:, : len(tree)] if uniform is not None else None))

    def _uniform(self) -> Tensor:
        self.cycles += 1
        return self.uniforms[self.cycles - 1]

    def _in_cache(self, prompt: Batch) -> int:
        """How many of a prompt's positions need not be read again. The last known one is always read: its aux hidden states
        make the draft's row that looks at what follows."""
        if len(prompt) != 1 or len(self.known) != 1:
            return 0
        common = common_prefix(prompt, self.target.model.config, self.known[0], self.images)
        in_draft = len(self.known[0]) - 1 - (int(self.pending[1].counts[0]) if self.pending else 0)
        start = min(common - 1, in_draft, prompt.input_ids.shape[1] - 1)
        inside = [first for first, end in image_spans(prompt, self.target.model.config) if first < start < end]
        return max(inside[0] if inside else start, 0)

    def _forget(self, capacity: int) -> None:
        """Empty caches of the right size for new prompts."""
        self.cache = TreeCache(self.target.config.num_hidden_layers, capacity)
        if self.drafter:
            self.drafter = Drafter(self.drafter.draft, self.target.embed_tokens, self.shape, capacity)
