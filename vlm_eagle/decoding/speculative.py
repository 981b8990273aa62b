"""The speculative cycle: grow a tree, verify it in one target forward, commit."""

from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.config import ImageInputs
from vlm_eagle.decoding.acceptance import VerifyResult, accept, accept_sampled
from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.draft.fit import check_fit
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.kv_cache import SeqLens
from vlm_eagle.target.target import Prefilled, Target


class SpeculativeDecoder(DecodeLoop):
    """Answers of the target that a draft makes faster.

    Raises:
        UserError: a draft made for another target, or one that cannot do what is asked of it.
    """

    drafter: Drafter

    def __init__(
        self, target: Target, draft: Eagle3Draft, shape: TreeShape, sampler: Sampler, *,
        sampled_drafts: bool = False, image_inputs: ImageInputs = "token",
    ):  # fmt: skip
        super().__init__(target, sampler, shape)
        check_fit(draft.config, target.config, target.layer_ids)
        if draft.config.has_own_embed_tokens and image_inputs == "visual_embeds":
            raise UserError(
                "This draft brings its own embeddings and cannot read the target's visual ones. Set image_inputs to token."
            )
        self.sampled_drafts, self.image_inputs = sampled_drafts, image_inputs
        self.drafter = Drafter(draft, target.embed_tokens, shape)

    @property
    def tree(self) -> DraftTree:
        """The trees of the last cycle, also of a replayed one."""
        scores = self.state.tree_scores if self.shape.paths is None else None
        return DraftTree.from_parents(self.state.tree_tokens, self.state.tree_parents, self.shape.depth, scores)

    def _advance(self, seqs: SeqLens) -> None:
        state = self.state
        state.hidden.copy_(self.drafter.extend(state.hidden, state.aux_hidden, state.committed, seqs, state.counts))
        tree = self._propose(seqs)
        state.set_tree(tree)
        aux_hidden = verify_and_commit(self, tree, seqs)
        path = state.path[..., None].expand(-1, -1, aux_hidden.shape[2]).to(aux_hidden.device)
        state.aux_hidden.copy_(aux_hidden.gather(1, path))

    def _propose(self, seqs: SeqLens) -> DraftTree:
        state, sampler = self.state, self.sampler if self.sampled_drafts else None
        uniform = state.uniform[:, 2 * self.shape.num_draft_tokens :]
        return self.drafter.propose(state.hidden, state.root, seqs, sampler, uniform)

    def _read(self, prompt: Batch, start: int) -> Prefilled:
        return self.target.prefill(prompt, self.cache, start, embeddings=self._reads_visual(prompt))

    def _read_with_draft(self, prompt: Batch, start: int, read: Prefilled, root: Tensor) -> Tensor:
        """The draft reads the prompt one token ahead, the root last."""
        assert read.aux_hidden is not None
        next_tokens = prompt.input_ids.roll(-1, 1).scatter(1, read.lengths[:, None] - 1, root[:, None])
        embedding = self.drafter.embed_tokens(next_tokens[:, start:])
        is_visual = self.target.visual_mask(prompt) if self._reads_visual(prompt) else None
        if is_visual is not None and read.embeddings is not None:
            is_visual = F.pad(is_visual[:, 1:], (0, 1))[:, start:, None].to(embedding.device)
            embedding = F.pad(read.embeddings[:, 1:], (0, 0, 0, 1)).to(embedding.device).where(is_visual, embedding)
        seqs = SeqLens(read.lengths, read.rope_delta, prompt.input_ids.shape[1])
        return self.drafter.prefill(read.aux_hidden, embedding, seqs, start, read.positions)

    def _reads_visual(self, prompt: Batch) -> bool:
        return self.image_inputs == "visual_embeds" and bool(prompt.vision_inputs)


def verify_and_commit(decoder: DecodeLoop, tree: DraftTree, seqs: SeqLens) -> Tensor:
    """One target forward over the trees; the state moves on by what was accepted. Returns the nodes' aux hidden states (B, N,
    3 * D_target)."""
    logits, aux_hidden = decoder.target.verify(decoder.cache, tree.tokens, tree.depths, tree.ancestors, seqs)
    result = _verify(decoder, tree, logits)
    if not decoder.shape.is_chain:
        decoder.cache.compact(seqs.lengths, result.path)
    decoder.state.commit(result)
    return aux_hidden


def _verify(decoder: DecodeLoop, tree: DraftTree, logits: Tensor) -> VerifyResult:
    uniform, sampler = decoder.state.uniform, decoder.sampler
    if tree.proposals is not None:
        assert decoder.drafter is not None
        return accept_sampled(tree, sampler.probabilities(logits), decoder.drafter.draft.target_ids, uniform)
    return accept(tree, sampler(logits, None if sampler.greedy else uniform[:, : len(tree)]))
