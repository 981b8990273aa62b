"""The draft vocabulary: the target tokens that answers really use, as the two maps the engines define."""

from collections.abc import Sequence
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
    def from_counts(cls, counts: Tensor, size: int, forced: Sequence[int] = ()) -> "DraftVocab":
        """The `forced` tokens and, for the rest of `size`, the most frequent ones of (V,) counts; ties and the never seen by
        lower id.

        Raises:
            UserError: not so many tokens, or more forced ones.
        """
        if not 0 < size <= len(counts):
            raise UserError(f"The draft vocabulary must have 1 to {len(counts)} tokens, asked for {size}.")
        return cls.from_ids(ranked(counts, forced)[:size], len(counts), at_least=len(set(forced)))

    @classmethod
    def from_ids(cls, ids: Tensor | Sequence[int], vocab_size: int, at_least: int = 1) -> "DraftVocab":
        """These target tokens, in whatever order they are given.

        Raises:
            UserError: fewer than `at_least`, one twice, or one that the target does not have.
        """
        ids = torch.as_tensor(ids, dtype=torch.long).sort().values
        if 0 < len(ids) < at_least:
            raise UserError(f"A draft vocabulary of {len(ids)} tokens cannot hold the {at_least} that it must. Make it larger.")
        if not len(ids) or ids[0] < 0 or ids[-1] >= vocab_size or bool((ids[1:] == ids[:-1]).any()):
            raise UserError(f"A draft vocabulary is a set of token ids from 0 to {vocab_size - 1}, none twice, and not empty.")
        t2d = torch.zeros(vocab_size, dtype=torch.bool)
        t2d[ids] = True
        return cls(ids - torch.arange(len(ids)), t2d)

    @property
    def target_ids(self) -> Tensor:
        """(W,) int64, the target tokens, ascending."""
        return self.d2t + torch.arange(len(self.d2t), device=self.d2t.device)

    def check(self, draft_vocab_size: int, vocab_size: int) -> None:
        """Raises UserError unless both maps have these sizes and say the same."""
        if self.d2t.shape != (draft_vocab_size,) or self.t2d.shape != (vocab_size,):
            raise UserError(
                f"d2t has shape {tuple(self.d2t.shape)} and t2d {tuple(self.t2d.shape)}; the configuration says "
                f"({draft_vocab_size},) and ({vocab_size},)."
            )
        if not torch.equal(self.target_ids, self.t2d.nonzero().flatten()):
            raise UserError(
                "d2t and t2d disagree: draft_id + d2t[draft_id] must list the true entries of t2d in ascending order. "
                "(d2t holds offsets, not absolute ids.)"
            )


def ranked(counts: Tensor, forced: Sequence[int] = ()) -> Tensor:
    """(V,) all token ids in the order in which a draft vocabulary takes them: `forced` first, then by (V,) counts, ties by id.

    Raises:
        UserError: a forced token that the target does not have.
    """
    outside = [token for token in forced if not 0 <= token < len(counts)]
    if outside:
        raise UserError(f"Token {outside[0]} cannot be forced into the draft vocabulary: ids go from 0 to {len(counts) - 1}.")
    order = counts.argsort(descending=True, stable=True)
    first = torch.zeros(len(counts), dtype=torch.bool)
    first[list(forced)] = True
    return torch.cat([order[first[order]], order[~first[order]]])


def coverage(counts: Tensor, vocab: DraftVocab) -> float:
    """Share of the counted tokens that `vocab` holds; 1 where there are none."""
    total = int(counts.sum())
    return int(counts[vocab.t2d].sum()) / total if total else 1.0
