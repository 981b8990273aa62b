"""The draft vocabulary: the target tokens that answers really use, as the two maps the engines define."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_eagle.errors import UserError


@dataclass(frozen=True)
class DraftVocab:
    """Maps between draft ids and target ids.

    Attributes:
        d2t: (W,) int64, an offset: target_id = draft_id + d2t[draft_id].
        t2d: (V,) bool, whether a target id is in the draft vocabulary.
    """

    d2t: Tensor
    t2d: Tensor

    @classmethod
    def full(cls, vocab_size: int) -> "DraftVocab":
        """Every target token."""
        return cls(torch.zeros(vocab_size, dtype=torch.long), torch.ones(vocab_size, dtype=torch.bool))

    @classmethod
    def from_counts(cls, counts: Tensor, size: int) -> "DraftVocab":
        """The `size` most frequent tokens of (V,) counts, in ascending id order; ties and the never seen by lower id."""
        if not 0 < size <= len(counts):
            raise UserError(f"The draft vocabulary must have 1 to {len(counts)} tokens, asked for {size}.")
        ids = counts.argsort(descending=True, stable=True)[:size].sort().values
        t2d = torch.zeros(len(counts), dtype=torch.bool)
        t2d[ids] = True
        return cls(ids - torch.arange(size), t2d)

    def check(self, draft_vocab_size: int, vocab_size: int) -> None:
        """Raises UserError unless both maps have these sizes and say the same."""
        if self.d2t.shape != (draft_vocab_size,) or self.t2d.shape != (vocab_size,):
            raise UserError(
                f"d2t has shape {tuple(self.d2t.shape)} and t2d {tuple(self.t2d.shape)}; the configuration says "
                f"({draft_vocab_size},) and ({vocab_size},)."
            )
        ids = self.d2t + torch.arange(draft_vocab_size, device=self.d2t.device)
        if not torch.equal(ids, self.t2d.nonzero().flatten()):
            raise UserError(
                "d2t and t2d disagree: draft_id + d2t[draft_id] must list the true entries of t2d in ascending order. "
                "(d2t holds offsets, not absolute ids.)"
            )


def count_tokens(id_lists: Iterable[list[int]], vocab_size: int) -> Tensor:
    """(V,) int64 counts of token ids."""
    counts = torch.zeros(vocab_size, dtype=torch.long)
    for ids in id_lists:
        counts += torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=vocab_size)
    return counts
