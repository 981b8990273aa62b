"""Conversations in, answers as text out: what is done wherever a batch of prompts is simply to be answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.generate import Generation, generate
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Answer:
    """What the target said.

    Attributes:
        text: without its end token and other special tokens.
        tokens: its token ids without the end token.
        ended: whether the target ended it; otherwise the length limit did.
        generation: the whole record, end token included.
    """

    text: str
    tokens: list[int]
    ended: bool
    generation: Generation


def answer_prompts(
    target: Target,
    collator: VisionCollator,
    conversations: Sequence[Conversation],
    draft: Eagle3Draft | None = None,
    *,
    seeds: Sequence[int] | None = None,
    **settings: Any,
) -> list[Answer | BadRow]:
    """One answer per conversation, in order; an error stands for each that cannot be a prompt, and costs the others nothing.

    Args:
        target: who answers.
        collator: the target's, for generation.
        conversations: B prompts.
        draft: makes it faster, not different.
        seeds: one per conversation, for sampling.
        settings: those of `generate`.
    """
    samples, rows, results = [], [], [None] * len(conversations)
    for i, conversation in enumerate(conversations):
        try:
            samples.append((conversation.id, collator.encode(conversation)))
            rows.append(i)
        except BadRow as error:
            results[i] = error
    if not samples:
        return results
    if seeds is not None:
        settings["seed"] = [seeds[i] for i in rows]
    for i, generation in zip(
        rows, generate(target, collator.stack(samples, {}).to(target.device), draft, **settings), strict=True
    ):
        ended = generation.tokens[-1] in target.eos_ids
        tokens = generation.tokens[:-1] if ended else generation.tokens
        results[i] = Answer(target.tokenizer.decode(tokens, skip_special_tokens=True), tokens, ended, generation)
    return results
