"""Text from a growing list of token ids, without half characters and without decoding the whole answer again."""

from transformers import PreTrainedTokenizerBase


def decode(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The text of one sequence, without special tokens."""
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


class TextStream:
    """Feed ids, get the new text. A character whose bytes are spread over tokens appears with its last one.

    Only the tokens since the last two flushes are decoded, so that a tokenizer which treats the start of a text specially
    sees some context, and an answer of n tokens costs O(n).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.context: list[int] = []  # tokens already shown, kept for context
        self.waiting: list[int] = []

    def push(self, tokens: list[int]) -> str:
        """The text that these ids complete."""
        self.waiting += tokens
        shown, text = self._decode(self.context), self._decode(self.context + self.waiting)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self.context, self.waiting = self.waiting or self.context, []
        return text[len(shown) :]

    def end(self) -> str:
        """The remaining text, even if it ends within a character."""
        text = self._decode(self.context + self.waiting)[len(self._decode(self.context)) :]
        self.waiting = []
        return text

    def _decode(self, tokens: list[int]) -> str:
        return decode(self.tokenizer, tokens)
