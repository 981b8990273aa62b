"""Talk to a target in the terminal, about text and images. Green words were guessed by the draft and confirmed.

Lines that start with / are commands: /image FILE shows an image with your next question, /new forgets the conversation,
/quit (or Ctrl-D) ends. Ctrl-C stops an answer.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vlm_eagle.config import DEMO, draft_for
from vlm_eagle.decoding.options import Sampling, Settings, TreeShape
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from vlm_eagle.decoding.chat import Chat


@dataclass(kw_only=True)
class Config:
    """Whom to talk to.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft; auto for the demo's own.
        draft_tokens: nodes verified per target forward, the root included.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
        max_new_tokens: longest answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        top_k: sample among the k most probable tokens, 0 is off (not the tree's topk).
        min_p: drop tokens below this share of the best one's probability, 0 is off.
    """

    target: str = DEMO
    draft: str = "auto"
    draft_tokens: int = 8
    topk: int = 1
    num_steps: int | None = None
    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        self.draft = draft_for(self.target, self.draft)


def main(config: Config) -> None:
    """Reads questions until the end of the input."""
    from vlm_eagle import api

    console = Console()
    settings = Settings(
        shape=TreeShape(config.draft_tokens, config.topk, config.num_steps), max_new_tokens=config.max_new_tokens,
        sampling=Sampling(config.temperature, config.top_p, config.top_k, config.min_p),
    )  # fmt: skip
    chat = api.chat(api.load_pair(config.target, config.draft), settings)
    console.print("[dim]/image FILE, /new, /quit. [/dim][green]Green[/green][dim] words were guessed by the draft.[/dim]")
    images: list[Path] = []
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        command, _, argument = line.partition(" ")
        if command == "/quit":
            return
        if command == "/new":
            chat.forget()
            images.clear()
        elif command == "/image" and argument:
            images.append(Path(argument).expanduser())
            if not images[-1].is_file():
                console.print(f"No such file: {images.pop()}", style="red")
        elif command.startswith("/"):
            console.print("/image FILE shows an image with your next question, /new starts a new conversation, /quit ends.")
        elif line:
            _answer(chat, line, tuple(images), console)
            images.clear()


def _answer(chat: "Chat", line: str, images: tuple[Path, ...], console: Console) -> None:
    answer = chat.ask(line, images)
    try:
        for text, drafted in answer:
            console.print(Text(text, style="green" if drafted else ""), end="", soft_wrap=True)
    except KeyboardInterrupt:
        answer.close()
        console.print(" [dim](stopped)[/dim]", end="")
    except UserError as error:
        console.print(str(error), style="red")
        return
    said = chat.answer
    console.print(f"\n[dim]{len(said.tokens)} tokens, acceptance length {said.stats.acceptance_length:.2f}[/dim]")
