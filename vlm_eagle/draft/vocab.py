"""The draft vocabulary: the target tokens that answers really use, as the two maps the engines define, and as a file that many
runs can use:

    {"format": "vlm_eagle.draft_vocabulary/1", "vocab_size": 151936, "ids": [0, 1, 5, ...], ...}

`vocab_size` is the target's, as its config.json states it; `ids` are target tokens. Anything else says how it was chosen.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_eagle.errors import UserError
from vlm_eagle.provenance import write_json

FORMAT = "vlm_eagle.draft_vocabulary/1"


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
        """The `forced` tokens and, for the rest of `size`, the most frequent ones of (V,) counts; ties go to the lower id.

        Raises:
            UserError: `size` exceeds the vocabulary, or is less than the forced tokens.
        """
        if not 0 < size <= len(counts):
            raise UserError(f"The draft vocabulary must have 1 to {len(counts)} tokens, asked for {size}.")
        return cls.from_ids(ranked(counts, forced)[:size], len(counts), at_least=len(set(forced)))

    @classmethod
    def from_ids(cls, ids: Tensor | Sequence[int], vocab_size: int, at_least: int = 1) -> "DraftVocab":
        """These target tokens, in any order.

        Raises:
            UserError: fewer than `at_least`, duplicates, or a token that the target does not have.
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
    """Share of the counted tokens that `vocab` holds; 1 if none were counted."""
    total = int(counts.sum())
    return int(counts[vocab.t2d].sum()) / total if total else 1.0


def write_vocabulary(file: Path, vocab: DraftVocab, **about: Any) -> None:
    """Writes `vocab`, with `about` on how it was made."""
    write_json(file, {"format": FORMAT, "vocab_size": len(vocab.t2d), **about, "ids": vocab.target_ids.tolist()})


def read_vocabulary(file: Path, vocab_size: int) -> DraftVocab:
    """The vocabulary in a file, for a target of `vocab_size` tokens.

    Raises:
        UserError: no such file, something else in it, or a vocabulary for another target.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a draft vocabulary: {error}. Make one with vlm-eagle vocabulary.") from error
    ids = raw.get("ids") if isinstance(raw, dict) and raw.get("format") == FORMAT else None
    if not isinstance(ids, list) or not all(type(i) is int and abs(i) < 2**31 for i in ids):
        raise UserError(f'{file} is not a draft vocabulary: expected "format": "{FORMAT}" and a list of numbers under "ids".')
    if raw.get("vocab_size") != vocab_size:
        raise UserError(f"{file} is for a target of {raw.get('vocab_size')} tokens; this one has {vocab_size}. Choose another.")
    try:
        return DraftVocab.from_ids(ids, vocab_size)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
