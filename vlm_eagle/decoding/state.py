"""All that a cycle reads and writes on the device besides the caches, always in the same tensors."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vlm_eagle.decoding.acceptance import VerifyResult
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.target.kv_cache import SeqLens
from vlm_eagle.target.target import Prefilled


@dataclass
class State:
    """B answers being written. Without a draft `hidden` and `aux_hidden` have width 0.

    Attributes:
        lengths: (B,) int64, committed entries in the target's cache.
        rope_delta: (B,) int64.
        root: (B,) int64, the last committed token.
        active: (B,) bool; where false the answer is finished and nothing is committed.
        uniform: (B, per cycle) float64, this cycle's random numbers; empty when greedy.
        hidden: (B, 1, D), the draft's output at its last cache entry.
        aux_hidden: (B, P, 3 * D_target) of the tokens committed last, which are not yet in the draft's cache.
        tree_tokens: (B, N) int64, the tree verified last.
        tree_parents: (B, N) int64.
        tree_scores: (B, N), meaningful for a dynamic tree.
        path: (B, P) int64, the nodes accepted last, root first.
        committed: (B, P) int64, the tokens committed last.
        counts: (B,) int64, how many of them are real; 0 right after a prompt.
    """

    lengths: Tensor
    rope_delta: Tensor
    root: Tensor
    active: Tensor
    uniform: Tensor
    hidden: Tensor
    aux_hidden: Tensor
    tree_tokens: Tensor
    tree_parents: Tensor
    tree_scores: Tensor
    path: Tensor
    committed: Tensor
    counts: Tensor

    @classmethod
    def after_prompt(cls, read: Prefilled, root: Tensor, hidden: Tensor | None, uniform: Tensor, shape: TreeShape) -> "State":
        """The state with roots (B,) right behind prompts; `hidden` is None without a draft."""
        b, p, n = len(root), shape.depth + 1, shape.num_draft_tokens
        no_draft = read.logits.new_zeros(b, 1, 0)
        aux_hidden = no_draft if read.aux_hidden is None else read.aux_hidden
        return cls(
            lengths=read.lengths.clone(),
            rope_delta=read.rope_delta.clone(),
            root=root.clone(),
            active=torch.ones_like(root, dtype=torch.bool),
            uniform=uniform.clone(),
            hidden=no_draft if hidden is None else hidden.clone(),
            aux_hidden=aux_hidden.new_zeros(b, p, aux_hidden.shape[2]),
            tree_tokens=root.new_zeros(b, n),
            tree_parents=root.new_zeros(b, n),
            tree_scores=torch.zeros(b, n, device=root.device),
            path=root.new_zeros(b, p),
            committed=root.new_zeros(b, p),
            counts=torch.zeros_like(root),
        )

    def seq_lens(self, max_length: int) -> SeqLens:
        """`max_length` is at least the largest of `lengths`."""
        return SeqLens(self.lengths, self.rope_delta, max_length)

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

    def set_tree(self, tree: DraftTree) -> None:
        """Keeps the tree that is about to be verified, for those who measure."""
        self.tree_tokens.copy_(tree.tokens)
        self.tree_parents.copy_(tree.parents)
        if tree.scores is not None:
            self.tree_scores.copy_(tree.scores)

    def commit(self, result: VerifyResult) -> None:
        """Moves on by what was accepted in active sequences. A tree of less depth than the shape's fills fewer columns."""
        p, counts = result.path.shape[1], result.counts * self.active
        last = result.committed.gather(1, (counts - 1).clamp_min(0)[:, None])[:, 0]
        self.root.copy_(torch.where(self.active, last, self.root))
        self.lengths.add_(counts)
        self.counts.copy_(counts)
        self.path[:, :p].copy_(result.path)
        self.committed[:, :p].copy_(result.committed)

    @property
    def result(self) -> VerifyResult:
        """What the last cycle committed, in the state's own tensors: the next cycle overwrites them."""
        return VerifyResult(self.path, self.committed, self.counts)
