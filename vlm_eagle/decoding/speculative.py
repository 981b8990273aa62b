"""The speculative cycle: grow a tree, verify it in one target forward, commit."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.config import ImageInputs
from vlm_eagle.decoding.cycle import Decoder
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.rejection import accept_drawn
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import Verdict, accept
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Prefilled, Target


class SpeculativeDecoder(Decoder):
    """Answers of the target that a draft makes faster."""

    def __init__(
        self, target: Target, draft: Eagle3Draft, shape: TreeShape, sampler: Sampler, *,
        drawn_drafts: bool = False, image_inputs: ImageInputs = "token",
    ):  # fmt: skip
        super().__init__(target, sampler, shape)
        self.drawn_drafts, self.image_inputs = drawn_drafts, image_inputs
        if draft.config.own_embeddings and image_inputs == "merged":
            raise UserError(
                "This draft brings its own embeddings and cannot read the target's visual ones. Set image_inputs to token."
            )
        self.drafter = Drafter(draft, target.embed_tokens, shape, 0)
        self.tree: DraftTree | None = None  # of the last cycle that was not replayed, for those who measure

    def _advance(self, longest: int) -> None:
        state = self.state
        self.tree = self._grow(longest)
        aux_hidden = verify_and_commit(self, self.tree, longest)
        path = state.path[..., None].expand(-1, -1, aux_hidden.shape[2]).to(aux_hidden.device)
        state.aux_hidden.copy_(aux_hidden.gather(1, path))

    def _grow(self, longest: int) -> DraftTree:
        state = self.state
        self.drafter.extend(state.aux_hidden, state.committed, state.lengths - state.counts, state.counts, longest)
        sampler = self.sampler if self.drawn_drafts else None
        uniform = state.uniform[:, 2 * self.shape.num_draft_tokens :]
        return self.drafter.grow(state.root, state.lengths, longest, sampler, uniform)

    def _prefill(self, prompt: Batch, start: int) -> Prefilled:
        return self.target.prefill(prompt, self.cache, start, embeddings=self._reads_visual(prompt))

    def _begin(self, prompt: Batch, start: int, read: Prefilled, root: Tensor) -> None:
        """The draft reads the prompt too: its rows look one token ahead, at the root last."""
        super()._begin(prompt, start, read, root)
        next_tokens = prompt.input_ids.roll(-1, 1).scatter(1, read.lengths[:, None] - 1, root[:, None])
        embedding = self.drafter.embed_tokens(next_tokens[:, start:])
        if self._reads_visual(prompt):
            visual = F.pad(self.target.visual_mask(prompt)[:, 1:], (0, 1))[:, start:, None].to(embedding.device)
            embedding = F.pad(read.embeddings[:, 1:], (0, 0, 0, 1)).to(embedding.device).where(visual, embedding)
        self.drafter.read(read.aux_hidden, embedding, read.lengths, start, read.positions, read.rope_delta)

    def _reads_visual(self, prompt: Batch) -> bool:
        return self.image_inputs == "merged" and bool(prompt.pixels)

    def _in_place(self) -> list[Tensor]:
        return [*super()._in_place(), self.drafter.hidden]

    def _reserve(self, rows: int, capacity: int) -> None:
        if self._other_rows(rows):
            self.drafter = Drafter(self.drafter.draft, self.target.embed_tokens, self.shape, 0)
        super()._reserve(rows, capacity)
        self.drafter.reserve(self.cache.capacity)


def verify_and_commit(decoder: Decoder, tree: DraftTree, longest: int) -> Tensor:
    """One target forward over the trees; the state moves on by what was accepted. Returns the nodes' aux hidden states (B, N,
    3 * D_target)."""
    state = decoder.state
    logits, aux_hidden = decoder.target.verify(
        decoder.cache, tree.tokens, tree.depths, tree.ancestors, state.lengths, longest, state.rope_delta
    )
    verdict = _judge(decoder, tree, logits)
    counts = verdict.counts * state.going
    if not decoder.shape.is_chain:
        decoder.cache.keep(state.lengths, verdict.path)
    last = (counts - 1).clamp_min(0)[:, None]
    state.root.copy_(torch.where(state.going, verdict.committed.gather(1, last)[:, 0], state.root))
    state.lengths.add_(counts)
    state.counts.copy_(counts)
    state.path, state.committed = _set(state.path, verdict.path), _set(state.committed, verdict.committed)
    return aux_hidden


def _judge(decoder: Decoder, tree: DraftTree, logits: Tensor) -> Verdict:
    uniform, sampler = decoder.state.uniform, decoder.sampler
    if tree.proposals is not None:
        return accept_drawn(tree, sampler.probabilities(logits), decoder.drafter.draft.target_ids, uniform)
    return accept(tree, sampler(logits, None if sampler.greedy else uniform[:, : len(tree)]))


def _set(buffer: Tensor, value: Tensor) -> Tensor:
    """`value` in the buffer; trees of varying depth (prompt lookup) get a new one."""
    return buffer.copy_(value) if buffer.shape == value.shape else value
