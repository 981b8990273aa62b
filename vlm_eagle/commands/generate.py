"""Streams an answer to the terminal, drafted and verified: about an image file, or to a text prompt.

    vlm-eagle generate --image photo.jpg --prompt "Describe this image."
    vlm-eagle generate --prompt "What is 38 + 47?"

Several images may follow --image. --draft none decodes with the target alone.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from vlm_eagle.commands.options import AnswerOptions


@dataclass(kw_only=True)
class Config(AnswerOptions):
    """One prompt.

    Attributes:
        prompt: the question.
        image: image files, in the order they are shown.
    """

    prompt: str = "Describe this image."
    image: list[str] = field(default_factory=list)


def main(config: Config) -> None:
    """Prints the answer as it is written, then one line about it."""
    from vlm_eagle import api
    from vlm_eagle.data.conversation import Conversation, user_message
    from vlm_eagle.decoding.generate import Generation

    pair = config.load()
    conversation = Conversation("prompt", (user_message(config.prompt, tuple(map(Path, config.image))),), source="--image")
    answer, started = Generation(), time.perf_counter()
    for piece in api.stream(pair, conversation, config.settings, out=answer):
        print(piece, end="", flush=True)
    print()
    seconds, stats = time.perf_counter() - started, answer.stats
    Console(stderr=True).print(
        f"[dim]{len(answer.tokens)} tokens in {seconds:.2f} s, {stats.forwards} verification forwards, "
        f"acceptance length {stats.acceptance_length:.2f}[/dim]"
    )
