"""Does the demo target see? Its answers about held-out scenes against the truth, attribute by attribute."""

import re
from dataclasses import asdict, dataclass

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


@dataclass(frozen=True)
class Sight:
    """How often a task's held-out answers are right.

    Attributes:
        answers: answers asked for.
        all_right: share of answers that name exactly the reference's attributes (colours, shapes, sizes, places, numbers),
            in its order.
        attributes_right: share of the reference's attributes that stand in their place.
    """

    answers: int
    all_right: float
    attributes_right: float


def look(target: Target, count: int) -> dict[str, dict]:
    """`Sight` of every task on `count` held-out conversations, as plain values; wording is free, attributes are not."""
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
        report[task] = asdict(Sight(count, round(all_right, 4), round(right / max(total, 1), 4)))
    return report


def attributes(text: str) -> list[str]:
    """The words of a text that state something about a scene or a number, in order."""
    return _ATTRIBUTE.findall(text)


def _last(conversation: Conversation) -> str:
    return "".join(part.text for part in conversation.messages[-1].content if isinstance(part, TextPart))
