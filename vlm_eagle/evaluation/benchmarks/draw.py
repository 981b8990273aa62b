"""Drawing prompts at random, so that the same seed gives the same prompts whatever the order of the file."""

import bisect
import re
from dataclasses import replace
from pathlib import Path

from vlm_eagle.data.benchmark import Prompt

from .entry import Question


class PromptDraw:
    """Keeps, of all questions seen, those that belong to the draw.

    What is kept is `count` at most (in each category, where `by_category`), the first ones in an order that is a hash of seed
    and content: a smaller draw is a part of a larger one. Without `count` all are kept, and embedded pictures are written to
    files as they come, so that memory does not grow with them.
    """

    def __init__(self, seed: int, count: int | None, by_category: bool, images: Path):
        self.seed, self.count, self.by_category, self.images = seed, count, by_category, images
        self._drawn: dict[str, list[tuple[tuple[str, ...], int, Question]]] = {}
        self._all: list[tuple[tuple[str, ...], Prompt]] = []
        self._seen = 0

    def add(self, question: Question) -> None:
        """One more question."""
        self._seen += 1
        rank = question.rank(self.seed)
        if self.count is None:
            self._all.append((rank, question.prompt(question.key, self.images)))
            return
        group = self._drawn.setdefault((question.category or "") if self.by_category else "", [])
        bisect.insort(group, (rank, self._seen, question))
        del group[self.count :]

    def prompts(self, limit: int | None = None) -> list[Prompt]:
        """What was drawn, at most `limit`, in the order of the ids; ids that occur twice are told apart."""
        drawn = [(rank, question) for group in self._drawn.values() for rank, _, question in group]
        chosen = sorted([*self._all, *drawn], key=lambda item: item[0])[:limit]
        prompts = [(rank, item if isinstance(item, Prompt) else item.prompt(item.key, self.images)) for rank, item in chosen]
        return _named_apart([prompt for _, prompt in sorted(prompts, key=lambda item: (_natural(item[1].id), item[0]))])


def _natural(id_: str) -> str:
    """A key that sorts `q9` before `q10`."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), id_)


def _named_apart(prompts: list[Prompt]) -> list[Prompt]:
    times: dict[str, int] = {}
    named = []
    for prompt in prompts:
        times[prompt.id] = times.get(prompt.id, 0) + 1
        if times[prompt.id] > 1:
            conversation = replace(prompt.conversation, id=f"{prompt.id}#{times[prompt.id]}")
            prompt = replace(prompt, conversation=conversation)
        named.append(prompt)
    return named
