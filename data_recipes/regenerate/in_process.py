"""Answers from our own loop, in batches: with a draft, data for the next draft is made faster by the last one."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Dialogue, Reply, with_thoughts
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.answers import Answer, Answerer
from vlm_eagle.decoding.options import Settings
from vlm_eagle.decoding.pair import load_pair
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.errors import UserError

_WINDOW = 16  # batches' worth of conversations


class InProcess:
    """An `AnswerSource` (run.py).

    Raises:
        UserError: no such target or draft, or they do not fit.
    """

    def __init__(self, config: RegenerateConfig):
        self.config = config
        assert config.target is not None, "the options ask for a target or servers"
        pair = load_pair(config.target, config.draft, dtype=config.dtype)
        self.target, self.draft, target = pair.target, pair.draft, pair.target
        longest_prompt = target.config.max_position_embeddings - config.max_new_tokens
        if longest_prompt < 1:
            raise UserError(
                f"max_new_tokens {config.max_new_tokens} leaves no room for a prompt in the target's context. Lower it."
            )
        collator = VisionCollator(
            target.processor, max_length=longest_prompt, for_generation=True, thinking=config.enable_thinking
        )
        self.shape = TreeShape(config.draft_tokens, config.topk, config.num_steps)
        settings = Settings(shape=self.shape, sampling=config.sampling, max_new_tokens=config.max_new_tokens)
        self.answer_prompts = Answerer(target, collator, self.draft, settings)
        self.stats = AcceptanceStats()
        self.special = frozenset(target.tokenizer.all_special_ids)
        self.made_by = {"target": config.target, "weights": target.fingerprint, "dtype": str(target.embed_tokens.weight.dtype)}

    def answers(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """Every dialogue when it is over. Batches are formed among the dialogues of a window by the length of the old answers,
        since a batch takes as long as its longest answer."""
        source, size = iter(dialogues), self.config.batch_size
        window: list[Dialogue] = []
        while True:
            new = list(islice(source, _WINDOW * size - len(window)))
            if not new and not window:
                return
            yield from (dialogue for dialogue in new if dialogue.is_over)
            window = sorted((d for d in window + new if not d.is_over), key=lambda dialogue: len(dialogue.old_answer))
            for start in range(0, len(window), size):
                batch = window[start : start + size]
                self._answer(batch)
                yield from (dialogue for dialogue in batch if dialogue.is_over)
            window = [dialogue for dialogue in window if not dialogue.is_over]

    def summary(self) -> dict[str, Any]:
        """How well the draft did; its acceptance length is None where nothing was left to answer."""
        if self.draft is None:
            return {}
        return {
            "draft": self.config.draft,
            "shape": str(self.shape),
            "acceptance_length": round(self.stats.acceptance_length, 4) if self.stats.forwards else None,
        }

    def _answer(self, batch: list[Dialogue]) -> None:
        """One turn of each."""
        prompts, seeds = [dialogue.prompt() for dialogue in batch], [dialogue.turn_seed for dialogue in batch]
        answers = self.answer_prompts(prompts, seeds)
        for dialogue, answer in zip(batch, answers, strict=True):
            if isinstance(answer, BadRow):
                dialogue.end(answer.reason, str(answer))
            else:
                self.stats += answer.generation.stats
                dialogue.take(self._reply(answer))

    def _reply(self, answer: Answer) -> Reply:
        has_special = not self.special.isdisjoint(answer.tokens)
        count = len(answer.generation.tokens)
        return Reply(with_thoughts(answer.text, None), count, not answer.ended, answer.tokens, has_special)
