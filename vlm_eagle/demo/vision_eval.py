"""Measures whether the demo target sees: its answers about held-out scenes against the truth, attribute by attribute."""

import re

from vlm_eagle.data.conversation import Conversation, TextPart
from vlm_eagle.demo import mix
from vlm_eagle.demo.answers import write_answers
from vlm_eagle.demo.data import BENCHMARK_START
from vlm_eagle.demo.questions import COLORS_ZH, NUMBERS, NUMBERS_ZH, PLACES_ZH, SHAPES_ZH, SIZES_ZH
from vlm_eagle.demo.scenes import COLORS, PLACES, SHAPES, SIZES
from vlm_eagle.target.target import Target

_ENGLISH = {*COLORS, *SHAPES, *SIZES, *PLACES, *NUMBERS[1:]}
_CHINESE = {*COLORS_ZH.values(), *SHAPES_ZH.values(), *SIZES_ZH.values(), *PLACES_ZH.values(), *NUMBERS_ZH[1:]}
_WORDS = "|".join(
    [rf"\b{word}\b" for word in sorted(_ENGLISH, key=len, reverse=True)] + sorted(_CHINESE, key=len, reverse=True)
)
_ATTRIBUTE = re.compile(rf"{_WORDS}|\d+")


def measure_vision(target: Target, count: int) -> dict[str, dict[str, float]]:
    """By task, on `count` held-out conversations, how often answers are right: `answers` asked for, the share `all_right` of
    them that name exactly the reference's attributes (colours, shapes, sizes, places, numbers) in its order, and the share
    `attributes_right` of the reference's attributes that stand in their place. Wording is free."""
    report = {}
    for task in mix.TASKS:
        conversations = [mix.sample(task, BENCHMARK_START + i) for i in range(count)]
        answers = write_answers(target, conversations, max_new_tokens=200, batch_size=64)
        pairs = [
            (attributes(_last(truth)), attributes(_last(answer)) if answer else [])
            for truth, answer in zip(conversations, answers, strict=True)
        ]
        right = sum(sum(a == b for a, b in zip(truth, answer, strict=False)) for truth, answer in pairs)
        total = sum(len(truth) for truth, _ in pairs)
        all_right = sum(truth == answer for truth, answer in pairs) / count
        attributes_right = right / max(total, 1)
        report[task] = {"answers": count, "all_right": round(all_right, 4), "attributes_right": round(attributes_right, 4)}
    return report


def attributes(text: str) -> list[str]:
    """The words of a text that state something about a scene or a number, in order."""
    return _ATTRIBUTE.findall(text)


def _last(conversation: Conversation) -> str:
    return "".join(part.text for part in conversation.messages[-1].content if isinstance(part, TextPart))
