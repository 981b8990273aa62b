"""The loss mask: where the target's next-token prediction is part of an assistant's answer.

It is read off the token ids, between the role markers of the ChatML template that every Qwen model uses, because text
that is tokenised a second time need not give the same ids.
"""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from vlm_eagle.errors import UserError


class LossMask:
    """Finds answers in token ids: from `<|im_start|>assistant\\n` (exclusive) to `<|im_end|>` (inclusive).

    An empty `<think>` block right after the marker is not supervised: with thinking switched off, Qwen3's template puts
    it into the prompt, so it is never predicted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
        end: Any = tokenizer.convert_tokens_to_ids("<|im_end|>")
        start: Any = tokenizer.convert_tokens_to_ids("<|im_start|>")
        self.end: int = end
        if self.end is None or start is None or self.header[0] != start:
            raise UserError(
                "The tokenizer has no <|im_start|> and <|im_end|> tokens, so answers cannot be found in token ids. "
                "Only Qwen's ChatML template is supported."
            )
        self.no_think = []
        if "<think>" in tokenizer.get_vocab():
            self.no_think = tokenizer.encode("<think>\n\n</think>\n\n", add_special_tokens=False)

    def answer_spans(self, ids: list[int]) -> list[tuple[int, int]]:
        """Half-open ranges [start, end) of answer tokens. An answer that never ends (cut off) runs to the last token."""
        spans, i, n = [], 0, len(self.header)
        while (i := _find(ids, self.header[0], i)) < len(ids):
            if ids[i : i + n] != self.header:
                i += 1
                continue
            start = i + n
            if self.no_think and ids[start : start + len(self.no_think)] == self.no_think:
                start += len(self.no_think)
            end = min(_find(ids, self.end, start) + 1, len(ids))
            if end > start:
                spans.append((start, end))
            i = max(end, i + 1)
        return spans

    def mask(self, ids: list[int]) -> torch.Tensor:
        """(T,) bool, true at position p iff token p + 1 is an answer token (a *supervised position*)."""
        mask = torch.zeros(len(ids), dtype=torch.bool)
        for start, end in self.answer_spans(ids):
            mask[start - 1 : end - 1] = True
        return mask


def _find(ids: list[int], token: int, start: int) -> int:
    """Where `token` stands next, from `start` on; the end of the list if nowhere."""
    try:
        return ids.index(token, start)
    except ValueError:
        return len(ids)
