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

from vlm_eagle.commands.options import AnswerOptions
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from vlm_eagle.decoding.chat import Chat


@dataclass(kw_only=True)
class Config(AnswerOptions):
    """Who answers, and how."""

    max_new_tokens: int = 512


def main(config: Config) -> None:
    """Reads questions until the end of the input."""
    from vlm_eagle import api

    console = Console()
    chat = api.chat(config.load(), config.settings)
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
    written = chat.answer
    console.print(f"\n[dim]{len(written.tokens)} tokens, acceptance length {written.stats.acceptance_length:.2f}[/dim]")
