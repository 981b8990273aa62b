"""Grows draft trees. Keeps the draft's key-value cache, which holds rows made of true target features only.

After each verification the accepted tokens' rows are computed anew from the target's aux hidden states (`extend`); rows the
draft made from its own guesses live for one tree and are dropped. Keeping them instead costs 8-15 % of acceptance.
"""

import torch
from torch import Tensor, nn

from vlm_eagle.decoding.draft_kv_cache import DraftKVCache
from vlm_eagle.decoding.fixed import FixedPlan
from vlm_eagle.decoding.sampling import Sampler, draw
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.draft.layers import Attend
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.kv_cache import tree_mask


class Drafter:
    """The drafting state of B sequences.

    Row i of the cache holds aux hidden state h_i with the embedding of x_{i+1} at rotary position i, as in training
    (`training/ttt.py`). `hidden` (B, 1, D) is each sequence's last row's output: with it drafting starts.

    A draft made by others may use M-RoPE: its prompt rows then stand at the target's own three coordinates, and all later rows
    at index + rope_delta in each (`delta`, None for 1-D drafts), as in SGLang.
    """

    def __init__(self, draft: Eagle3Draft, embed_tokens: nn.Embedding, shape: TreeShape, capacity: int):
        self.draft, self.shape = draft, shape
        self.embed_tokens = draft.embed_tokens if draft.config.has_own_embed_tokens else embed_tokens
        self.cache = DraftKVCache(capacity + self.num_scratch_slots(shape))
        self.plan = FixedPlan.of(shape, embed_tokens.weight.device) if shape.paths else None
        self._hidden: Tensor | None = None
        self.delta: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """(B, 1, D), what `step` gave at each last true row; there is one once a prompt was read."""
        assert self._hidden is not None
        return self._hidden

    @staticmethod
    def num_scratch_slots(shape: TreeShape) -> int:
        """Rows a tree needs behind the true ones."""
        return max(shape.topk, shape.num_draft_tokens) * max(shape.depth, 1) + 1

    def reserve(self, capacity: int) -> None:
        """Makes room for at least `capacity` true rows."""
        self.cache.reserve(capacity + self.num_scratch_slots(self.shape))

    @torch.no_grad()
    def prefill(
        self, aux_hidden: Tensor, embedding: Tensor, lengths: Tensor, start: int = 0,
        positions: Tensor | None = None, rope_delta: Tensor | None = None,
    ) -> None:  # fmt: skip
        """The prompts' rows from `start` on (their earlier ones are there).

        Args:
            aux_hidden: (B, R, 3 * D_target), right-padded.
            embedding: (B, R, D_target) of the token after each position; at each prompt's last one it is the root.
            lengths: (B,) int64, rows afterwards.
            start: 0, or B = 1.
            positions: (3, B, R) or (B, R), the target's rotary positions, which an M-RoPE draft shares.
            rope_delta: (B,) int64, what the target adds to the sequence index of every later token.
        """
        if self.draft.config.mrope_section is None:
            positions = None
        elif rope_delta is not None:
            self.delta = rope_delta.clone() if self.delta is None else self.delta.copy_(rope_delta)
        if start:
            before = torch.full_like(lengths, start)
            return self._append(aux_hidden, embedding, before, lengths - start, start, positions)
        if positions is None:
            positions = torch.arange(aux_hidden.shape[1], device=lengths.device).expand(embedding.shape[:2])
        self._step_true(aux_hidden, embedding, positions, self.cache.fill, lengths)

    @torch.no_grad()
    def extend(self, aux_hidden: Tensor, next_tokens: Tensor, before: Tensor, counts: Tensor, max_seq_len: int) -> None:
        """Appends true rows: of R given ones the first `counts` (B,) are real, the others are overwritten later.
        A sequence without a real one keeps its `hidden`.

        Args:
            aux_hidden: (B, R, 3 * D_target) of newly committed positions.
            next_tokens: (B, R) int64, the committed token after each of them.
            before: (B,) int64, true rows so far.
            counts: (B,) int64.
            max_seq_len: at least the largest of `before`, known to the host.
        """
        self._append(aux_hidden, self.embed_tokens(next_tokens), before, counts, max_seq_len)

    def rotary(self, index: Tensor) -> Tensor:
        """Where text rows stand, (B, R), from their sequence indices (B, R)."""
        return index if self.delta is None else index + self.delta[:, None]

    def _append(
        self, aux_hidden: Tensor, embedding: Tensor, before: Tensor, counts: Tensor, max_seq_len: int,
        positions: Tensor | None = None,
    ) -> None:  # fmt: skip
        r = embedding.shape[1]
        slots = before[:, None] + torch.arange(r, device=before.device)
        causal = torch.ones(len(before), r, r, dtype=torch.bool, device=before.device).tril()
        kv_len = min(max_seq_len + r, self.cache.capacity)
        positions = self.rotary(slots) if positions is None else positions
        self._step_true(aux_hidden, embedding, positions, self.cache.attend(slots, tree_mask(before, causal, kv_len)), counts)

    def _step_true(self, aux_hidden: Tensor, embedding: Tensor, positions: Tensor, attend: Attend, counts: Tensor) -> None:
        output = self.draft.step(self.draft.fuse(aux_hidden), embedding, positions, attend)
        last = output.gather(1, (counts - 1).clamp_min(0)[:, None, None].expand(-1, 1, output.shape[2]))
        if self._hidden is None or len(self._hidden) != len(last):
            self._hidden = torch.zeros_like(last)
        self.hidden.copy_(torch.where(counts[:, None, None] > 0, last, self.hidden))

    @torch.no_grad()
    def propose(
        self, root: Tensor, lengths: Tensor, max_seq_len: int, sampler: Sampler | None = None, uniform: Tensor | None = None
    ) -> DraftTree:
        """The trees after the roots (B,), behind `lengths` (B,) true rows. With a sampler, a chain's tokens are drawn from the
        draft's distribution, with uniform numbers (B, N - 1), instead of being its argmaxes."""
        level = _Level(self, lengths, max_seq_len)
        if self.shape.num_draft_tokens == 1:
            return DraftTree.from_parents(root[:, None], torch.full_like(root[:, None], -1), 0)
        if self.plan is None:
            return self._dynamic(root, level)
        if sampler is None or uniform is None:
            return self._fixed(root, level, self.plan)
        return self._drawn(root, level, self.plan, sampler, uniform)

    def _dynamic(self, root: Tensor, level: "_Level") -> DraftTree:
        """The most probable continuations by cumulative draft probability (EAGLE-2, https://arxiv.org/abs/2406.16858): each
        level's best `topk` nodes are expanded by `topk` children each, and of all proposed nodes the best
        `num_draft_tokens - 1` are kept. A parent is never less probable than its child and comes first on a tie, so what is
        kept is a tree."""
        k, b = self.shape.topk, len(root)
        hidden, made = self.hidden, 0
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
                hidden = level.expand(hidden, tokens.gather(1, order), order // k)
        return self._best(root, *(torch.cat(rows, dim=1) for rows in (all_tokens, all_parents, all_scores)))

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

    def _fixed(self, root: Tensor, level: "_Level", whole: FixedPlan) -> DraftTree:
        """Every node is a given rank among the children of a given node of the level before."""
        tokens, hidden = [root[:, None]], self.hidden
        for plan in whole.levels:
            logits = self.draft.logits(hidden)
            best = logits.argmax(-1, keepdim=True) if plan.width == 1 else logits.topk(plan.width, dim=-1).indices
            tokens.append(self.draft.target_ids[best].flatten(1)[:, plan.chosen])
            if plan.expanded is not None and plan.parent_row is not None:
                hidden = level.expand(hidden, tokens[-1][:, plan.expanded], plan.parent_row.expand(len(root), -1))
        return _planned(whole.tree, torch.cat(tokens, dim=1))

    def _drawn(self, root: Tensor, level: "_Level", whole: FixedPlan, sampler: Sampler, uniform: Tensor) -> DraftTree:
        """A chain of tokens drawn from the draft's own distribution under the target's sampling parameters."""
        tokens, hidden, proposals = [root[:, None]], self.hidden, []
        for step, plan in enumerate(whole.levels):
            q = sampler.probabilities(self.draft.logits(hidden))  # (B, 1, W)
            tokens.append(self.draft.target_ids[draw(q, uniform[:, step : step + 1])])
            proposals.append(q)
            if plan.expanded is not None and plan.parent_row is not None:
                hidden = level.expand(hidden, tokens[-1], plan.parent_row.expand(len(root), -1))
        return _planned(whole.tree, torch.cat(tokens, dim=1), proposals=torch.cat(proposals, dim=1))


class _Level:
    """Computes a tree's rows level by level, behind the true ones."""

    def __init__(self, drafter: Drafter, lengths: Tensor, max_seq_len: int):
        self.drafter, self.lengths, self.max_seq_len = drafter, lengths, max_seq_len
        self.seen: Tensor | None = None  # (B, F, tree rows) bool, what each row of the level sees of the tree
        self.depth = self.made = 0

    def expand(self, hidden: Tensor, tokens: Tensor, parent_row: Tensor) -> Tensor:
        """(B, F, D), the outputs of the rows of `tokens` (B, F), whose parents are rows `parent_row` (B, F) of the level
        before, with outputs `hidden`. Each row sees all true rows, what its parent saw of the tree, and itself."""
        b, f = tokens.shape
        own = torch.eye(f, dtype=torch.bool, device=tokens.device).expand(b, f, f)
        if self.seen is None:
            self.seen = own
        else:
            inherited = self.seen.gather(1, parent_row[..., None].expand(-1, -1, self.seen.shape[2]))
            self.seen = torch.cat([inherited, own], dim=2)
        slots = self.lengths[:, None] + torch.arange(self.made, self.made + f, device=tokens.device)
        self.made += f
        mask = tree_mask(self.lengths, self.seen, min(self.max_seq_len + self.made, self.drafter.cache.capacity))
        positions = (self.lengths + self.depth)[:, None].expand(b, f)  # the last true row is at lengths - 1
        self.depth += 1
        hidden = hidden.gather(1, parent_row[..., None].expand(-1, -1, hidden.shape[2]))
        drafter = self.drafter
        positions = drafter.rotary(positions)
        return drafter.draft.step(hidden, drafter.embed_tokens(tokens), positions, drafter.cache.attend(slots, mask))


def _planned(tree: DraftTree, tokens: Tensor, proposals: Tensor | None = None) -> DraftTree:
    """A planned tree (B = 1), with the tokens (B, N) that it got."""
    b = len(tokens)
    return DraftTree(
        tokens, tree.parents.expand(b, -1), tree.depths.expand(b, -1), tree.ancestors.expand(b, -1, -1), tree.depth,
        proposals=proposals,
    )  # fmt: skip
