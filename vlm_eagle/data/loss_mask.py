"""The loss mask: where the target's next-token prediction is part of an assistant's answer.

It is read off the token ids, between the markers that the chat template writes around answers, because text that is tokenised
a second time need not give the same ids. The markers come from the template itself: it renders a conversation of known words,
and the text around them is taken apart.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlm_eagle.errors import UserError

_WORDS = ("zebra", "quartz", "violin", "jungle")  # question, answer, question, answer of the conversation that is rendered
_THINK, _END_THINK = "<think>", "</think>"
_BLANK = re.compile(rf"{_THINK}\s*{_END_THINK}\s*$")


@dataclass(frozen=True)
class Markers:
    """Token ids around an answer.

    Attributes:
        header: what precedes it, e.g. `<|im_start|>assistant\\n`.
        openings: what a server's prompt may already contain of it, e.g. an empty `<think>` block; not learned.
        ends: the tokens that close it.
    """

    header: tuple[int, ...]
    openings: tuple[tuple[int, ...], ...]
    ends: frozenset[int]


def markers_of(tokenizer: PreTrainedTokenizerBase, chat_template: str, **options: Any) -> Markers:
    """The markers that a chat template writes.

    Args:
        tokenizer: the target's.
        chat_template: Jinja source, that of the processor for a vision target.
        options: of the template, such as `enable_thinking`.

    Raises:
        UserError: the template cannot render a plain conversation, or closes answers with no special token.
    """

    def render(words: tuple[str, ...], *, prompt: bool = False) -> str:
        roles = ("user", "assistant", "user", "assistant")
        messages = [{"role": role, "content": word} for role, word in zip(roles, words, strict=False)]
        rendered: Any = tokenizer.apply_chat_template(
            messages, chat_template=chat_template, tokenize=False, add_generation_prompt=prompt, **options
        )
        return rendered

    try:
        whole, asked, prompt = render(_WORDS), render(_WORDS[:1]), render(_WORDS[:1], prompt=True)
        question, answer, again = (whole.index(word) for word in _WORDS[:3])
        closing, generation = (text[text.index(_WORDS[0]) + len(_WORDS[0]) :] for text in (asked, prompt))
    except Exception as error:  # templates raise what they like, and a word may be missing
        raise UserError(f"The chat template cannot render a plain conversation, so answers cannot be found: {error}") from error
    between = whole[question + len(_WORDS[0]) : answer]
    after = _ids(tokenizer, whole[answer + len(_WORDS[1]) : again])
    opening = between.removesuffix(_blank_thought(between)).removeprefix(closing)
    special = set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    header = _ids(tokenizer, opening)
    if not special & set(header):  # nothing but the end of the question precedes an answer, as in Mistral's templates
        header = _ids(tokenizer, between.rstrip())
        header = header[max((i for i, token in enumerate(header) if token in special), default=len(header)) :]
    end = next((token for token in after if token in special), None)
    if not header or end is None:
        raise UserError("The chat template marks answers with no special tokens, so they cannot be found in token ids.")
    openings = {_ids(tokenizer, generation.removeprefix(closing).removeprefix(opening))}
    if _THINK in tokenizer.get_vocab():
        openings.add(_ids(tokenizer, f"{_THINK}\n\n{_END_THINK}\n\n"))
    return Markers(header, tuple(sorted(filter(None, openings), key=len, reverse=True)), frozenset({end}))


class LossMask:
    """Finds answers in token ids: from the header (exclusive) to the end token (inclusive).

    What a server's prompt already contains of an answer is not supervised: with thinking switched off, Qwen3's template puts an
    empty `<think>` block into the prompt, so the target never predicts it.
    """

    def __init__(self, markers: Markers):
        self.markers = markers

    def answer_spans(self, ids: list[int]) -> Iterator[tuple[int, int]]:
        """Half-open ranges [start, end) of answer tokens. An answer that never ends (cut off) runs to the last token."""
        header, i = list(self.markers.header), 0
        while (i := _find(ids, header[0], i)) < len(ids):
            if ids[i : i + len(header)] != header:
                i += 1
                continue
            start = i + len(header)
            for opening in self.markers.openings:
                if tuple(ids[start : start + len(opening)]) == opening:
                    start += len(opening)
                    break
            end = next((at + 1 for at in range(start, len(ids)) if ids[at] in self.markers.ends), len(ids))
            if end > start:
                yield start, end
            i = max(end, i + 1)

    def mask(self, ids: list[int]) -> Tensor:
        """(T,) bool, the mask of all answers."""
        return mask_of(self.answer_spans(ids), len(ids))


def mask_of(spans: Iterable[tuple[int, int]], length: int) -> Tensor:
    """(T,) bool, true at position p iff token p + 1 is in one of the spans (a *supervised position*)."""
    mask = torch.zeros(length, dtype=torch.bool)
    for start, end in spans:
        mask[start - 1 : end - 1] = True
    return mask


def _blank_thought(text: str) -> str:
    """The empty `<think>` block that a template writes at the end of `text`, if it does."""
    found = _BLANK.search(text)
    return found[0] if found else ""


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _find(ids: list[int], token: int, start: int) -> int:
    """Where `token` stands next, from `start` on; the end of the list if nowhere."""
    try:
        return ids.index(token, start)
    except ValueError:
        return len(ids)
