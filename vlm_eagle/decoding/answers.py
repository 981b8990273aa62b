"""Conversations in, answers as text out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.detokenize import decode
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, generate_with
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Answer:
    """What the target answered.

    Attributes:
        text: without special tokens.
        tokens: token ids without the end token.
        ended: whether an end token ended it; otherwise the length limit or a stop string did.
        generation: the whole record, end token included.
    """

    text: str
    tokens: list[int]
    ended: bool
    generation: Generation

    @property
    def stats(self) -> AcceptanceStats:
        """Verification forwards, tokens, acceptance length."""
        return self.generation.stats


def answer_of(target: Target, generation: Generation) -> Answer:
    """A finished generation of this target, as text."""
    ended = generation.tokens[-1] in target.eos_ids
    tokens = generation.tokens[:-1] if ended else generation.tokens
    return Answer(decode(target.tokenizer, tokens), tokens, ended, generation)


def prompt_collator(target: Target) -> VisionCollator:
    """For prompts up to the target's context; raises BadRow for one that cannot be used."""
    return VisionCollator(target.processor, max_length=target.config.max_position_embeddings, for_generation=True, strict=True)


class Answerer:
    """Answers conversations, batch after batch, with one decoder, whose buffers serve all of them.

    Args:
        target: who answers.
        collator: the target's, for generation. If it is strict, the first conversation that cannot be a prompt raises its
            BadRow; otherwise an error takes the place of its answer, and the others are answered.
        draft: makes it faster, not different.
        settings: how.
    """

    def __init__(
        self, target: Target, collator: VisionCollator, draft: Eagle3Draft | None = None, settings: Settings | None = None
    ):
        self.target, self.collator, self.settings = target, collator, settings or Settings()
        self.decoder = build_decoder(target, draft, self.settings)

    def __call__(self, conversations: Sequence[Conversation], seeds: Sequence[int] | None = None) -> list[Answer | BadRow]:
        """One answer or error per conversation, in order. `seeds` are for sampling, one per conversation; None takes those of
        the settings."""
        seeds = self.settings.seeds(len(conversations)) if seeds is None else seeds
        samples, errors = dict[int, tuple[str, dict[str, Tensor]]](), dict[int, BadRow]()
        for i, conversation in enumerate(conversations):
            try:
                samples[i] = conversation.id, self.collator.encode(conversation)
            except BadRow as error:
                if self.collator.strict:
                    raise
                errors[i] = error.as_value()
        answers = dict[int, Answer]()
        if samples:
            prompts = self.collator.stack(list(samples.values()), {}).to(self.target.device)
            settings = replace(self.settings, seed=[seeds[i] for i in samples])
            generations = generate_with(self.decoder, prompts, settings)
            answers = {i: answer_of(self.target, g) for i, g in zip(samples, generations, strict=True)}
        return [errors[i] if i in errors else answers[i] for i in range(len(conversations))]
