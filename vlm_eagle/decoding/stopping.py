"""Where an answer ends: at its first end token, a stop string, or the length limit, whichever comes first."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase


@dataclass
class Stopper:
    """The rule for one answer.

    Attributes:
        eos_ids: tokens that end an answer; the token stays in it.
        max_new_tokens: exact limit.
        stop_strings: the answer ends with the token that completes one of them.
        tokenizer: needed for stop strings alone.
    """

    eos_ids: Set[int]
    max_new_tokens: int
    stop_strings: Sequence[str] = field(default_factory=tuple)
    tokenizer: PreTrainedTokenizerBase | None = None

    def cut(self, answer: list[int], new: list[int]) -> tuple[list[int], bool]:
        """(the part of `new` that belongs to the answer, whether this finishes it)."""
        piece = new[: self.max_new_tokens - len(answer)]
        end = next((i for i, token in enumerate(piece) if token in self.eos_ids), None)
        if end is not None:
            piece = piece[: end + 1]
        stop = self._stop(answer, piece) if self.stop_strings else None
        if stop is not None:
            piece = piece[:stop]
        return piece, end is not None or stop is not None or len(answer) + len(piece) >= self.max_new_tokens

    def _stop(self, answer: list[int], piece: list[int]) -> int | None:
        """How many tokens of `piece` complete a stop string first."""
        assert self.tokenizer is not None
        longest = max(len(stop.encode()) for stop in self.stop_strings)  # a token has at least one byte
        before = answer[-longest:]
        for count in range(1, len(piece) + 1):
            text = str(self.tokenizer.decode(before + piece[:count]))
            if any(stop in text for stop in self.stop_strings):
                return count
        return None
