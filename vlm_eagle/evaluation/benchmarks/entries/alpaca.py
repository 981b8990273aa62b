"""Alpaca: instructions, some with an input. EAGLE and AngelSlim ask 80 of them, whose choice was not published; so do
we, by seed. Their `question.jsonl`, given as the source, is read as it is."""

from ..entry import Entry, Question, Row
from .mt_bench import turns_or


def _question(row: Row) -> Question:
    instruction = row.text("instruction")
    if not instruction.strip():
        raise row.bad("empty question", "the instruction is blank")
    return row.ask("\n\n".join(filter(str.strip, [instruction, row.text_or_none("input") or ""])))


ENTRIES = (
    Entry(
        name="alpaca",
        hub="tatsu-lab/alpaca",
        split="train",
        local=("question.jsonl", "alpaca_data.json", "data/train-*.parquet"),
        schema="instruction; input; output",
        question=turns_or(_question),
        size=52_002,
        count=80,
        max_new_tokens=1024,  # AngelSlim's default
        licence="CC BY-NC 4.0",
        citation="Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca",
    ),
)
