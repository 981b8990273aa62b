"""The speculative cycle: grow a tree, verify it in one target forward, commit."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.config import ImageInputs
from vlm_eagle.decoding.acceptance import VerifyResult, accept
from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.rejection import accept_sampled
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Prefilled, Target


class SpeculativeDecoder(DecodeLoop):
    """Answers of the target that a draft makes faster."""

    drafter: Drafter

    def __init__(
        self, target: Target, draft: Eagle3Draft, shape: TreeShape, sampler: Sampler, *,
        sampled_drafts: bool = False, image_inputs: ImageInputs = "token",
    ):  # fmt: skip
        super().__init__(target, sampler, shape)
        self.sampled_drafts, self.image_inputs = sampled_drafts, image_inputs
        if draft.config.has_own_embed_tokens and image_inputs == "visual_embeds":
            raise UserError(
                "This draft brings its own embeddings and cannot read the target's visual ones. Set image_inputs to token."
            )
        self.drafter = Drafter(draft, target.embed_tokens, shape, 0)
        self.tree: DraftTree | None = None  # of the last cycle that was not replayed, for those who measure

    def _advance(self, max_seq_len: int) -> None:
        state = self.state
        self.tree = self._propose(max_seq_len)
        aux_hidden = verify_and_commit(self, self.tree, max_seq_len)
        path = state.path[..., None].expand(-1, -1, aux_hidden.shape[2]).to(aux_hidden.device)
        state.aux_hidden.copy_(aux_hidden.gather(1, path))

    def _propose(self, max_seq_len: int) -> DraftTree:
        state = self.state
        self.drafter.extend(state.aux_hidden, state.committed, state.lengths - state.counts, state.counts, max_seq_len)
        sampler = self.sampler if self.sampled_drafts else None
        uniform = state.uniform[:, 2 * self.shape.num_draft_tokens :]
        return self.drafter.propose(state.root, state.lengths, max_seq_len, sampler, uniform)

    def _prefill_target(self, prompt: Batch, start: int) -> Prefilled:
        return self.target.prefill(prompt, self.cache, start, embeddings=self._reads_visual(prompt))

    def _begin_answers(self, prompt: Batch, start: int, read: Prefilled, root: Tensor) -> None:
        """The draft reads the prompt too: its rows look one token ahead, at the root last."""
        super()._begin_answers(prompt, start, read, root)
        assert read.aux_hidden is not None
        next_tokens = prompt.input_ids.roll(-1, 1).scatter(1, read.lengths[:, None] - 1, root[:, None])
        embedding = self.drafter.embed_tokens(next_tokens[:, start:])
        at = self.target.visual_mask(prompt) if self._reads_visual(prompt) else None
        if at is not None and read.embeddings is not None:
            visual = F.pad(at[:, 1:], (0, 1))[:, start:, None].to(embedding.device)
            embedding = F.pad(read.embeddings[:, 1:], (0, 0, 0, 1)).to(embedding.device).where(visual, embedding)
        self.drafter.prefill(read.aux_hidden, embedding, read.lengths, start, read.positions, read.rope_delta)

    def _reads_visual(self, prompt: Batch) -> bool:
        return self.image_inputs == "visual_embeds" and bool(prompt.vision_inputs)

    def _in_place(self) -> list[Tensor]:
        return [*super()._in_place(), self.drafter.hidden]

    def _reserve(self, rows: int, capacity: int) -> None:
        if self._other_rows(rows):
            self.drafter = Drafter(self.drafter.draft, self.target.embed_tokens, self.shape, 0)
        super()._reserve(rows, capacity)
        self.drafter.reserve(self.cache.capacity)


def verify_and_commit(decoder: DecodeLoop, tree: DraftTree, max_seq_len: int) -> Tensor:
    """One target forward over the trees; the state moves on by what was accepted. Returns the nodes' aux hidden states (B, N,
    3 * D_target)."""
    state = decoder.state
    logits, aux_hidden = decoder.target.verify(
        decoder.cache, tree.tokens, tree.depths, tree.ancestors, state.lengths, max_seq_len, state.rope_delta
    )
    result = _verify(decoder, tree, logits)
    counts = result.counts * state.active
    if not decoder.shape.is_chain:
        decoder.cache.compact(state.lengths, result.path)
    last = (counts - 1).clamp_min(0)[:, None]
    state.root.copy_(torch.where(state.active, result.committed.gather(1, last)[:, 0], state.root))
    state.lengths.add_(counts)
    state.counts.copy_(counts)
    state.path, state.committed = _set(state.path, result.path), _set(state.committed, result.committed)
    return aux_hidden


def _verify(decoder: DecodeLoop, tree: DraftTree, logits: Tensor) -> VerifyResult:
    uniform, sampler = decoder.state.uniform, decoder.sampler
    if tree.proposals is not None:
        assert decoder.drafter is not None
        return accept_sampled(tree, sampler.probabilities(logits), decoder.drafter.draft.target_ids, uniform)
    return accept(tree, sampler(logits, None if sampler.greedy else uniform[:, : len(tree)]))


def _set(buffer: Tensor, value: Tensor) -> Tensor:
    """`value` in the buffer; trees of varying depth (prompt lookup) get a new one."""
    return buffer.copy_(value) if buffer.shape == value.shape else value
