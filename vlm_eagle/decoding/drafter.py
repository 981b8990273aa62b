"""Grows draft trees. Keeps the draft's key-value cache, which holds rows made of true target features only.

After each verification the accepted tokens' rows are computed anew from the target's aux hidden states (`extend`); rows the
draft made from its own guesses live for one tree and are dropped. Keeping them instead costs 8-15 % of acceptance.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.draft.model import Eagle3Draft


class Drafter:
    """One sequence's drafting state.

    Row i of the cache holds aux hidden state h_i with the embedding of x_{i+1} at rotary position i, as in training
    (`training/ttt.py`). `hidden` is the last row's output: with it drafting starts.
    """

    def __init__(self, draft: Eagle3Draft, embed_tokens: nn.Embedding, shape: TreeShape):
        self.draft, self.embed_tokens, self.shape = draft, embed_tokens, shape
        self.attend = _CachedAttention()
        self.hidden: Tensor | None = None  # (1, 1, D)

    @torch.no_grad()
    def extend(self, aux_hidden: Tensor, next_tokens: Tensor) -> None:
        """Appends true rows.

        Args:
            aux_hidden: (R, 3 * D_target) of R newly committed positions.
            next_tokens: (R,) int64, the committed token after each of them; the last one is the root of the next tree.
        """
        start = self.attend.committed
        positions = torch.arange(start, start + len(next_tokens), device=next_tokens.device)[None]
        output = self.draft.step(
            self.draft.fuse(aux_hidden)[None], self.embed_tokens(next_tokens)[None], positions, self.attend.commit
        )
        self.hidden = output[:, -1:]

    @torch.no_grad()
    def grow(self, root: int) -> DraftTree:
        """The tree of the most probable continuations after `root`, by cumulative draft probability (EAGLE-2,
        https://arxiv.org/abs/2406.16858): each level's best `topk` nodes are expanded by `topk` children each, and of all
        proposed nodes the best `num_draft_tokens - 1` are kept. A parent is never less probable than its child and comes first
        on a tie, so what is kept is a tree."""
        if self.shape.num_draft_tokens == 1:
            return DraftTree.from_parents([root], [-1], self.embed_tokens.weight.device)
        tokens, parents, scores = self._candidates()
        best = scores.sort(descending=True, stable=True).indices[: self.shape.num_draft_tokens - 1].sort().values.tolist()
        node_of = {-1: 0} | {candidate: node for node, candidate in enumerate(best, 1)}
        tokens, parents = tokens.tolist(), parents.tolist()
        return DraftTree.from_parents(
            [root] + [tokens[c] for c in best], [-1] + [node_of[parents[c]] for c in best], self.hidden.device
        )

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """All proposed nodes in order of creation: target ids, index of the parent candidate (-1: the root), and
        cumulative log-probability, each (candidates,)."""
        k, last_position = self.shape.topk, self.attend.committed - 1
        self.attend.start_tree()
        hidden = self.hidden
        frontier = torch.tensor([-1], device=hidden.device)
        frontier_scores = torch.zeros(1, device=hidden.device)
        all_tokens, all_parents, all_scores, made = [], [], [], 0
        for step in range(self.shape.num_steps):
            logp, choices = self.draft.logits(hidden[0]).log_softmax(-1).topk(k, dim=-1)  # (F, k), sorted
            scores = (frontier_scores[:, None] + logp).flatten()
            tokens = self.draft.target_ids[choices].flatten()
            all_tokens.append(tokens)
            all_parents.append(frontier.repeat_interleave(k))
            all_scores.append(scores)
            if step == self.shape.num_steps - 1:
                break
            order = scores.sort(descending=True, stable=True).indices[:k]
            parent_row = order // k
            frontier, frontier_scores = made + order, scores[order]
            made += len(scores)
            positions = torch.full((1, len(order)), last_position + step + 1, device=hidden.device)
            self.attend.descend(parent_row)
            hidden = self.draft.step(
                hidden[:, parent_row], self.embed_tokens(tokens[order])[None], positions, self.attend.expand
            )
        return torch.cat(all_tokens), torch.cat(all_parents), torch.cat(all_scores)


class _CachedAttention:
    """The two `Attend`s of decoding over one cache: `commit` for true rows, `expand` for the rows of a tree's level."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None  # (1, H_kv, committed + tree rows, K)
        self.values: Tensor | None = None
        self.committed = 0
        self._seen: Tensor | None = None  # (F, tree rows) bool, what each frontier row sees of the tree

    def commit(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """New true rows: causal among themselves, everything committed before, nothing of the last tree."""
        new = k.shape[2]
        self._append(k, v, keep=self.committed)
        seen = torch.ones(new, self.committed + new, dtype=torch.bool, device=q.device).tril(self.committed)
        self.committed += new
        return F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=seen, enable_gqa=True)

    def start_tree(self) -> None:
        """Forgets the last tree's rows."""
        self._seen = None

    def descend(self, parent_row: Tensor) -> None:
        """The next level's rows: each sees what its parent (an index into the last level) saw, and itself."""
        own = torch.eye(len(parent_row), dtype=torch.bool, device=parent_row.device)
        self._seen = own if self._seen is None else torch.cat([self._seen[parent_row], own], dim=1)

    def expand(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tree rows: all committed rows and their own ancestors."""
        tree_rows = self._seen.shape[1] - k.shape[2]
        self._append(k, v, keep=self.committed + tree_rows)
        seen = torch.cat([self._seen.new_ones(k.shape[2], self.committed), self._seen], dim=1)
        return F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=seen, enable_gqa=True)

    def _append(self, k: Tensor, v: Tensor, keep: int) -> None:
        if self.keys is not None:
            k, v = torch.cat([self.keys[:, :, :keep], k], dim=2), torch.cat([self.values[:, :, :keep], v], dim=2)
        self.keys, self.values = k, v
