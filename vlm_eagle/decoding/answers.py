"""Conversations in, answers as text out: what is done wherever a batch of prompts is simply to be answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, generate_with
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Answer:
    """What the target said.

    Attributes:
        text: without its end token and other special tokens.
        tokens: its token ids without the end token.
        ended: whether an end token ended it; otherwise the length limit or a stop string did.
        generation: the whole record, end token included.
    """

    text: str
    tokens: list[int]
    ended: bool
    generation: Generation

    @property
    def stats(self) -> AcceptanceStats:
        """What it took: verification forwards, tokens, acceptance length."""
        return self.generation.stats


def answer_of(target: Target, generation: Generation) -> Answer:
    """A finished generation of this target, as text."""
    ended = generation.tokens[-1] in target.eos_ids
    tokens = generation.tokens[:-1] if ended else generation.tokens
    return Answer(target.tokenizer.decode(tokens, skip_special_tokens=True), tokens, ended, generation)


class Answerer:
    """Answers conversations, batch after batch, with one decoder, whose buffers serve all of them.

    Args:
        target: who answers.
        collator: the target's, for generation.
        draft: makes it faster, not different.
        settings: how; the seed of each answer is given with its conversation.
    """

    def __init__(
        self, target: Target, collator: VisionCollator, draft: Eagle3Draft | None = None, settings: Settings | None = None
    ):
        self.target, self.collator, self.settings = target, collator, settings or Settings()
        self.decoder = build_decoder(target, draft, self.settings)

    def __call__(self, conversations: Sequence[Conversation], seeds: Sequence[int] | None = None) -> list[Answer | BadRow]:
        """One answer per conversation, in order; an error stands for each that cannot be a prompt, and costs the others
        nothing. `seeds` are for sampling, one per conversation."""
        samples, rows, results = [], [], [None] * len(conversations)
        for i, conversation in enumerate(conversations):
            try:
                samples.append((conversation.id, self.collator.encode(conversation)))
                rows.append(i)
            except BadRow as error:
                results[i] = error.as_value()
        if not samples:
            return results
        settings = self.settings if seeds is None else replace(self.settings, seed=[seeds[i] for i in rows])
        prompts = self.collator.stack(samples, {}).to(self.target.device)
        for i, generation in zip(rows, generate_with(self.decoder, prompts, settings), strict=True):
            results[i] = answer_of(self.target, generation)
        return results
