"""A sample's tokens for people to read: pieces of text that are learned, or only read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlm_eagle.data.token_layout import IMAGE_PAD, VIDEO_PAD

FOLDED = (IMAGE_PAD, VIDEO_PAD)


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that are alike.

    Attributes:
        text: decoded together; one pad for a run of image tokens.
        count: number of pads; 1 for text.
        learned: whether the tokens are predicted by a supervised position.
    """

    text: str
    count: int
    learned: bool

    def __str__(self) -> str:
        return f"{self.text} x {self.count}" if self.count > 1 else self.text


def learned_tokens(loss_mask: Tensor) -> list[bool]:
    """Whether each of T tokens is learned, from the (T,) loss mask: p is supervised iff p + 1 is learned."""
    return [False, *loss_mask[:-1].tolist()]


def pieces(ids: Iterable[int], learned: Iterable[bool], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    """The tokens in order. Those of one piece are decoded together, because a character's bytes may span tokens."""
    tokens = zip(tokenizer.convert_ids_to_tokens(list(ids)), learned, strict=True)
    return list(_merged(tokens, tokenizer))


def _merged(tokens: Iterable[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> Iterator[Piece]:
    for (pad, is_learned), run in groupby(tokens, lambda t: (t[0] if t[0] in FOLDED else None, t[1])):
        words = [token for token, _ in run]
        if pad:
            yield Piece(pad, len(words), is_learned)
        else:
            yield Piece(tokenizer.convert_tokens_to_string(words), 1, is_learned)
