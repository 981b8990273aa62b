"""Grows draft trees. The draft's key-value cache keeps only entries made from the target's own features.

After each verification the accepted tokens are read again with the target's aux hidden states (`extend`); entries that the
draft made from its own guesses live for one tree. Keeping them instead costs 8-15 % of acceptance.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.decoding.sampling import Sampler, draw
from vlm_eagle.decoding.tree import DraftTree, FixedPlan, TreeShape
from vlm_eagle.draft.layers import Attend
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.target.kv_cache import SeqLens, TreeKVCache
from vlm_eagle.target.tree_mask import tree_mask


class Drafter:
    """A draft with its key-value cache for B sequences.

    Entry i of the cache is made from aux hidden state h_i and the embedding of x_{i+1} at rotary position i, as in training
    (`training/ttt.py`). `hidden` (B, 1, D) is the output at each sequence's last entry: with it drafting starts.

    A draft made by others may use M-RoPE: its prompt then has the target's own three coordinates, and everything later has
    index + rope_delta in each, as in SGLang.
    """

    def __init__(self, draft: Eagle3Draft, embed_tokens: nn.Embedding, shape: TreeShape):
        if shape.topk > draft.config.draft_vocab_size:
            raise UserError(
                f"topk {shape.topk} exceeds the draft vocabulary of {draft.config.draft_vocab_size} tokens. Lower topk."
            )
        self.draft, self.shape = draft, shape
        self.embed_tokens = draft.embed_tokens if draft.config.has_own_embed_tokens else embed_tokens
        self.plan = FixedPlan.of(shape, embed_tokens.weight.device) if shape.paths else None
        self.cache = TreeKVCache(1, 0)

    def reset(self) -> None:
        """An empty cache, for another number of sequences."""
        self.cache = TreeKVCache(1, 0)

    def reserve(self, capacity: int) -> None:
        """Makes room for at least `capacity` tokens per sequence, and for a tree behind them."""
        scratch = max(self.shape.topk, self.shape.num_draft_tokens) * max(self.shape.depth, 1) + 1
        self.cache.reserve(capacity + scratch)

    @torch.no_grad()
    def prefill(
        self, aux_hidden: Tensor, embedding: Tensor, seqs: SeqLens, start: int = 0, positions: Tensor | None = None
    ) -> Tensor:
        """Reads the prompts from position `start` on (what is before it is in the cache); returns `hidden`.

        Args:
            aux_hidden: (B, R, 3 * D_target), right-padded.
            embedding: (B, R, D_target) of the token after each position; at each prompt's last one it is the root.
            seqs: of the prompts.
            start: 0, or B = 1.
            positions: (3, B, R) or (B, R), the target's rotary positions, which an M-RoPE draft shares.
        """
        if self.draft.config.mrope_section is None:
            positions = None
        if start:
            return self._read(aux_hidden, embedding, seqs, seqs.lengths - start, positions)
        if positions is None:
            positions = torch.arange(aux_hidden.shape[1], device=embedding.device).expand(embedding.shape[:2])
        self.cache.start_prefill()
        return _last(self.draft.step(self.draft.fuse(aux_hidden), embedding, positions, self._causal), seqs.lengths)

    @torch.no_grad()
    def extend(self, hidden: Tensor, aux_hidden: Tensor, next_tokens: Tensor, seqs: SeqLens, counts: Tensor) -> Tensor:
        """Reads newly committed tokens; returns the new `hidden`, which is the old one for a sequence without any.

        Args:
            hidden: (B, 1, D).
            aux_hidden: (B, R, 3 * D_target); the first `counts` are real, the others are overwritten later.
            next_tokens: (B, R) int64, the committed token after each of them.
            seqs: with the new tokens.
            counts: (B,) int64, how many are new.
        """
        last = self._read(aux_hidden, self.embed_tokens(next_tokens), seqs, counts)
        return torch.where(counts[:, None, None] > 0, last, hidden)

    def rotary(self, index: Tensor, seqs: SeqLens) -> Tensor:
        """(B, R), the rotary positions of text tokens from their sequence indices (B, R)."""
        return index if self.draft.config.mrope_section is None else index + seqs.rope_delta[:, None]

    def attend(self, slots: Tensor, seen: Tensor) -> Attend:
        """An `Attend` for tokens whose entries go to `slots` (B, R) and that see `seen` (B, R, kv_len)."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.cache.set_slots(slots, seen.shape[2])
            keys, values = self.cache.layers[0].update(k, v)
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen[:, None], enable_gqa=True)

        return attend

    def _causal(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, *self.cache.layers[0].update(k, v), is_causal=True, enable_gqa=True)

    def _read(
        self, aux_hidden: Tensor, embedding: Tensor, seqs: SeqLens, counts: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """The output (B, 1, D) at the last of `counts` (B,) new tokens."""
        r, before = embedding.shape[1], seqs.lengths - counts
        slots = before[:, None] + torch.arange(r, device=before.device)
        causal = torch.ones(len(before), r, r, dtype=torch.bool, device=before.device).tril()
        seen = tree_mask(before, causal, min(seqs.max + r, self.cache.capacity))
        positions = self.rotary(slots, seqs) if positions is None else positions
        return _last(self.draft.step(self.draft.fuse(aux_hidden), embedding, positions, self.attend(slots, seen)), counts)

    @torch.no_grad()
    def propose(
        self, hidden: Tensor, root: Tensor, seqs: SeqLens, sampler: Sampler | None = None, uniform: Tensor | None = None
    ) -> DraftTree:
        """The trees after the roots (B,). With a sampler, a chain's tokens are drawn from the draft's distribution, with
        uniform numbers (B, N - 1), instead of being its argmaxes."""
        levels = _Levels(self, seqs)
        if self.shape.num_draft_tokens == 1:
            return DraftTree.from_parents(root[:, None], torch.full_like(root[:, None], -1), 0)
        if self.plan is None:
            return self._dynamic(hidden, root, levels)
        if sampler is None or uniform is None:
            return self._fixed(hidden, root, levels, self.plan)
        return self._drawn(hidden, root, levels, self.plan, sampler, uniform)

    def _dynamic(self, hidden: Tensor, root: Tensor, levels: "_Levels") -> DraftTree:
        """The most probable continuations by cumulative draft probability (EAGLE-2, https://arxiv.org/abs/2406.16858): each
        level's best `topk` nodes are expanded by `topk` children each, and of all proposed nodes the best
        `num_draft_tokens - 1` are kept. A parent is never less probable than its child and comes first on a tie, so what is
        kept is a tree."""
        k, b, made = self.shape.topk, len(root), 0
        frontier = torch.full((b, 1), -1, device=root.device)  # candidate numbers of the nodes that are expanded
        frontier_scores = torch.zeros(b, 1, device=root.device)
        all_tokens, all_parents, all_scores = [], [], []
        for step in range(self.shape.depth):
            logp, choices = self.draft.logits(hidden).log_softmax(-1).topk(k, dim=-1)  # (B, F, k), sorted
            scores = (frontier_scores[..., None] + logp).flatten(1)
            tokens = self.draft.target_ids[choices].flatten(1)
            all_tokens.append(tokens)
            all_parents.append(frontier.repeat_interleave(k, dim=1))
            all_scores.append(scores)
            if step < self.shape.depth - 1:
                order = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
                frontier, frontier_scores = made + order, scores.gather(1, order)
                made += scores.shape[1]
                hidden = levels.expand(hidden, tokens.gather(1, order), order // k)
        return self._best(root, *(torch.cat(parts, dim=1) for parts in (all_tokens, all_parents, all_scores)))

    def _best(self, root: Tensor, tokens: Tensor, parents: Tensor, scores: Tensor) -> DraftTree:
        """Of M candidates (B, M) the best-scored ones, in order of creation."""
        kept = scores.sort(dim=1, descending=True, stable=True).indices[:, : self.shape.num_draft_tokens - 1].sort(1).values
        nodes = torch.arange(1, kept.shape[1] + 1, device=root.device).expand_as(kept)
        node_of = torch.zeros_like(parents).scatter_(1, kept, nodes)
        above = parents.gather(1, kept)
        above = torch.where(above < 0, 0, node_of.gather(1, above.clamp_min(0)))
        return DraftTree.from_parents(
            torch.cat([root[:, None], tokens.gather(1, kept)], dim=1),
            torch.cat([torch.full_like(above[:, :1], -1), above], dim=1),
            self.shape.depth,
            scores=torch.cat([torch.zeros_like(scores[:, :1]), scores.gather(1, kept)], dim=1),
        )

    def _fixed(self, hidden: Tensor, root: Tensor, levels: "_Levels", plan: FixedPlan) -> DraftTree:
        """Every node is a given rank among the children of a given node of the level before."""
        tokens = [root[:, None]]
        for level in plan.levels:
            logits = self.draft.logits(hidden)
            best = logits.argmax(-1, keepdim=True) if level.width == 1 else logits.topk(level.width, dim=-1).indices
            tokens.append(self.draft.target_ids[best].flatten(1)[:, level.chosen])
            if len(level.expanded):
                hidden = levels.expand(hidden, tokens[-1][:, level.expanded], level.parent.expand(len(root), -1))
        return plan.filled(torch.cat(tokens, dim=1))

    def _drawn(
        self, hidden: Tensor, root: Tensor, levels: "_Levels", plan: FixedPlan, sampler: Sampler, uniform: Tensor
    ) -> DraftTree:
        """A chain of tokens drawn from the draft's own distribution under the target's sampling parameters."""
        tokens, proposals = [root[:, None]], []
        for step, level in enumerate(plan.levels):
            q = sampler.probabilities(self.draft.logits(hidden))  # (B, 1, W)
            tokens.append(self.draft.target_ids[draw(q, uniform[:, step : step + 1])])
            proposals.append(q)
            if len(level.expanded):
                hidden = levels.expand(hidden, tokens[-1], level.parent.expand(len(root), -1))
        return plan.filled(torch.cat(tokens, dim=1), torch.cat(proposals, dim=1))


class _Levels:
    """Computes a tree's hidden states level by level, with cache entries behind the committed ones."""

    def __init__(self, drafter: Drafter, seqs: SeqLens):
        self.drafter, self.seqs = drafter, seqs
        self.seen: Tensor | None = None  # (B, F, tree entries) bool, what each node of the level sees of the tree
        self.depth = self.made = 0

    def expand(self, hidden: Tensor, tokens: Tensor, parent: Tensor) -> Tensor:
        """(B, F, D), the outputs at `tokens` (B, F), whose parents are nodes `parent` (B, F) of the level before, with outputs
        `hidden`. Each node sees all committed entries, what its parent saw of the tree, and itself."""
        b, f = tokens.shape
        drafter, lengths = self.drafter, self.seqs.lengths
        own = torch.eye(f, dtype=torch.bool, device=tokens.device).expand(b, f, f)
        if self.seen is None:
            self.seen = own
        else:
            inherited = self.seen.gather(1, parent[..., None].expand(-1, -1, self.seen.shape[2]))
            self.seen = torch.cat([inherited, own], dim=2)
        slots = lengths[:, None] + torch.arange(self.made, self.made + f, device=tokens.device)
        self.made += f
        mask = tree_mask(lengths, self.seen, min(self.seqs.max + self.made, drafter.cache.capacity))
        positions = drafter.rotary((lengths + self.depth)[:, None].expand(b, f), self.seqs)  # a root's entry is at lengths - 1
        self.depth += 1
        hidden = hidden.gather(1, parent[..., None].expand(-1, -1, hidden.shape[2]))
        return drafter.draft.step(hidden, drafter.embed_tokens(tokens), positions, drafter.attend(slots, mask))


def _last(output: Tensor, counts: Tensor) -> Tensor:
    """(B, 1, D), the last of the first `counts` (B,) outputs (B, R, D)."""
    return output.gather(1, (counts - 1).clamp_min(0)[:, None, None].expand(-1, 1, output.shape[2]))
