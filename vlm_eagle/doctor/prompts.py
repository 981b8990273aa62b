"""What the doctor asks a target, so that a draft can be compared with its answers."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_eagle.data.conversation import BadRow, Conversation, user_message
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.errors import UserError

QUESTIONS = (
    "Explain in three sentences how a rainbow forms.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 180 km in 2.5 hours. What is its average speed? Show the steps.",
    "List five things to pack for a week in the mountains.",
    "Translate into French: The library opens at nine and closes at six.",
    "用三句话介绍一下长城。",
    "What is the difference between a virus and a bacterium?",
    "Write a short story about a lighthouse keeper who finds a letter.",
)


def read_rows(files: Sequence[str | Path]) -> list[Conversation | BadRow]:
    """The rows of JSONL files of conversations."""
    return [row for file in files for row in read_conversations(Path(file))]


def held_out_files(settings: dict[str, Any]) -> list[Path]:
    """The evaluation data of the training run with these settings, as far as it is still here."""
    data = settings.get("data")
    files = data.get("eval") if isinstance(data, dict) else None
    return [Path(name) for name in files or [] if isinstance(name, str) and Path(name).is_file()]


def built_in_questions() -> list[Conversation]:
    """Questions for any target."""
    return [Conversation(f"question-{i}", (user_message(text),), "built in") for i, text in enumerate(QUESTIONS)]


def choose_prompts(
    rows: Sequence[Conversation | BadRow], limit: int, text_only: bool
) -> tuple[list[Conversation], Counter[str]]:
    """(at most `limit` prompts, spread evenly over the usable rows, how many rows were skipped for which reason).

    Raises:
        UserError: no row can be used.
    """
    usable, skipped = [], Counter[str]()
    for row in rows:
        if isinstance(row, BadRow):
            skipped[row.reason] += 1
        elif text_only and row.has_media:
            skipped["has media"] += 1
        else:
            usable.append(row.prompt())
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise UserError(f"None of {len(rows)} prompts can be used ({reasons}). Give others with --prompts.")
    limit = min(limit, len(usable))
    return [usable[i * len(usable) // limit] for i in range(limit)], skipped
