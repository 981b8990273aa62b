"""The draft tree: what the target verifies in one forward pass. A chain is the tree with topk = 1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.errors import UserError


@dataclass(frozen=True)
class TreeShape:
    """SGLang's three parameters.

    Attributes:
        num_draft_tokens: nodes the target verifies in one forward, the root included.
        topk: children considered per expanded node; 1 makes a chain.
        num_steps: depth of the tree.
    """

    num_draft_tokens: int
    topk: int = 1
    num_steps: int | None = None

    def __post_init__(self) -> None:
        if self.num_draft_tokens < 1 or self.topk < 1:
            raise UserError("num_draft_tokens and topk must be at least 1.")
        if self.num_steps is None:
            object.__setattr__(self, "num_steps", self.num_draft_tokens - 1)
        steps, k, n = self.num_steps, self.topk, self.num_draft_tokens
        if n > 1 and steps < 1:
            raise UserError("num_steps must be at least 1 to draft anything.")
        if k == 1 and n != steps + 1:
            raise UserError(
                f"A chain (topk 1) of {steps} steps has {steps + 1} nodes, not {n}. Set num_draft_tokens to num_steps + 1."
            )
        candidates = k + max(steps - 1, 0) * k * k if steps else 0
        if n - 1 > candidates:
            raise UserError(
                f"num_steps {steps} with topk {k} proposes at most {candidates} tokens, fewer than num_draft_tokens - 1 = "
                f"{n - 1}. Raise num_steps or topk."
            )

    def __str__(self) -> str:
        n, name = self.num_draft_tokens, "chain" if self.topk == 1 else f"tree (steps {self.num_steps}, topk {self.topk})"
        return f"{name} of {n} draft tokens (vLLM: num_speculative_tokens {n - 1})"


@dataclass(frozen=True)
class DraftTree:
    """N nodes; parents come before their children, node 0 is the root.

    Attributes:
        tokens: (N,) int64 target ids; tokens[0] is the last committed token.
        parents: (N,) int64, -1 at the root.
        depths: (N,) int64, 0 at the root.
        ancestors: (N, N) bool, [i, j] true iff j is i or an ancestor of i.
    """

    tokens: Tensor
    parents: Tensor
    depths: Tensor
    ancestors: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def depth(self) -> int:
        """Levels below the root. Nodes are not sorted by depth."""
        return int(self.depths.max())

    @classmethod
    def from_parents(cls, tokens: list[int], parents: list[int], device: torch.device | str = "cpu") -> "DraftTree":
        """Depths and ancestors follow from the parents."""
        n = len(tokens)
        depths, ancestors = [0] * n, torch.eye(n, dtype=torch.bool)
        for node in range(1, n):
            depths[node] = depths[parents[node]] + 1
            ancestors[node] |= ancestors[parents[node]]
        as_tensor = lambda values: torch.tensor(values, device=device)
        return cls(as_tensor(tokens), as_tensor(parents), as_tensor(depths), ancestors.to(device))
