"""Which demo tasks there are, and one random conversation of each: the single place that turns generators into samples."""

import random
from collections.abc import Callable

from vlm_eagle.data.conversation import Conversation, Message, TextPart, user_message
from vlm_eagle.demo import questions, texts
from vlm_eagle.demo.questions import QA
from vlm_eagle.demo.scenes import Scene, draw, random_scene


def _about_scenes(scenes: list[Scene], turns: list[QA]) -> tuple[Message, ...]:
    images = tuple(draw(scene) for scene in scenes)
    messages = []
    for i, turn in enumerate(turns):
        messages += [user_message(turn.question, images if i == 0 else ()), _answer(turn)]
    return tuple(messages)


def _answer(turn: QA) -> Message:
    return Message("assistant", (TextPart(turn.answer),))


def _scene_task(*makers: Callable[[Scene, random.Random], QA]) -> Callable[[random.Random, int], tuple[Message, ...]]:
    def make(rng: random.Random, turns: int) -> tuple[Message, ...]:
        scene = random_scene(rng)
        return _about_scenes([scene], [rng.choice(makers)(scene, rng) for _ in range(turns)])

    return make


def _compare(rng: random.Random, turns: int) -> tuple[Message, ...]:
    scenes = [random_scene(rng, max_things=3) for _ in range(rng.randint(2, 3))]
    return _about_scenes(scenes, [questions.compare(scenes, rng) for _ in range(min(turns, 2))])


def _text_task(maker: Callable[[random.Random], QA]) -> Callable[[random.Random, int], tuple[Message, ...]]:
    def make(rng: random.Random, turns: int) -> tuple[Message, ...]:
        messages = []
        for turn in (maker(rng) for _ in range(turns)):
            messages += [user_message(turn.question), _answer(turn)]
        return tuple(messages)

    return make


# Name -> maker of (rng, turns). The names are those of the demo benchmarks.
TASKS: dict[str, Callable[[random.Random, int], tuple[Message, ...]]] = {
    "describe": _scene_task(questions.describe),
    "vqa": _scene_task(questions.ask),
    "multi-image": _compare,
    "arithmetic": _text_task(texts.arithmetic),
    "code": _text_task(texts.code),
    "chinese": _text_task(texts.chinese),
    "chinese-image": _scene_task(questions.describe_zh, questions.ask_zh),
}
TEXT_TASKS = ("arithmetic", "code", "chinese")


def sample(task: str, seed: int, turns: int = 1) -> Conversation:
    """The conversation number `seed` of a task; seeds are disjoint between training and held-out data by the caller."""
    rng = random.Random(f"{task}-{seed}")  # a string seed is hashed by Random itself, the same on every machine
    return Conversation(f"{task}-{seed}", TASKS[task](rng, turns))
