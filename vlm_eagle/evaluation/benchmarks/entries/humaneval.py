"""HumanEval: Python functions to complete from signature and docstring. The code alone, as EAGLE's benchmark asks it."""

from ..entry import Entry, Question, Row
from .mt_bench import turns_or


def _question(row: Row) -> Question:
    return row.ask(row.text("prompt"), id=row.values.get("task_id"))


ENTRIES = (
    Entry(
        name="humaneval",
        hub="openai/openai_humaneval",
        schema="task_id; prompt; canonical_solution; test; entry_point",
        question=turns_or(_question),
        size=164,
        max_new_tokens=1024,  # AngelSlim's default
        licence="MIT",
        citation="Chen et al. 2021, arXiv:2107.03374",
    ),
)
