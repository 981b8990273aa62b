"""Streams an answer to the terminal, drafted and verified: about an image file, or to a text prompt.

    vlm-eagle generate --image photo.jpg --prompt "Describe this image."
    vlm-eagle generate --prompt "What is 38 + 47?"

Several images may follow --image. --draft none decodes with the target alone.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from vlm_eagle.config import draft_for
from vlm_eagle.decoding.options import Sampling, Settings, TreeShape


@dataclass(kw_only=True)
class Config:
    """One prompt.

    Attributes:
        prompt: the question.
        image: image files, in the order they are shown.
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft; the word none decodes with the target alone; auto for the demo's own.
        draft_tokens: nodes verified per target forward, the root included.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
        max_new_tokens: longest answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        top_k: sample among the k most probable tokens, 0 is off (not the tree's topk).
        min_p: drop tokens below this share of the best one's probability, 0 is off.
        seed: of the sampling; none for a new one every time.
    """

    prompt: str = "Describe this image."
    image: list[str] = field(default_factory=list)
    target: str = "demo"
    draft: str = "auto"
    draft_tokens: int = 8
    topk: int = 1
    num_steps: int | None = None
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        self.draft = draft_for(self.target, self.draft)


def main(config: Config) -> None:
    """Prints the answer as it is written, then one line about it."""
    from rich.console import Console

    from vlm_eagle import api
    from vlm_eagle.data.conversation import Conversation, user_message
    from vlm_eagle.decoding.generate import Generation

    pair = api.load_pair(config.target, None if config.draft == "none" else config.draft)
    conversation = Conversation("prompt", (user_message(config.prompt, tuple(map(Path, config.image))),), source="--image")
    settings = Settings(
        shape=TreeShape(config.draft_tokens, config.topk, config.num_steps), max_new_tokens=config.max_new_tokens,
        sampling=Sampling(config.temperature, config.top_p, config.top_k, config.min_p), seed=config.seed,
    )  # fmt: skip
    answer, started = Generation(), time.perf_counter()
    for piece in api.stream(pair, conversation, settings, out=answer):
        print(piece, end="", flush=True)
    print()
    seconds, stats = time.perf_counter() - started, answer.stats
    Console(stderr=True).print(
        f"[dim]{len(answer.tokens)} tokens in {seconds:.2f} s, {stats.forwards} verification forwards, "
        f"acceptance length {stats.acceptance_length:.2f}[/dim]"
    )
