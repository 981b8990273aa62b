"""GSM8K: grade-school word problems. The question alone, as EAGLE's and AngelSlim's benchmarks ask it (no examples
before it).

`gsm8k-100` is the random 100 of the card of Zjcxy-SmartAI/Eagle3-Qwen3-8B-zh, which does not name its rows: ours are
drawn by seed.
"""

from dataclasses import replace

from ..entry import Entry, Question, Row
from .mt_bench import turns_or


def _question(row: Row) -> Question:
    return row.ask(row.text("question"))


GSM8K = Entry(
    name="gsm8k",
    hub="openai/gsm8k",
    config="main",
    local=("main/test-*.parquet",),  # not socratic/
    schema="question; answer",
    question=turns_or(_question),
    size=1319,
    max_new_tokens=2048,  # card of Eagle3-Qwen3-8B-zh
    licence="MIT",
    citation="Cobbe et al. 2021, arXiv:2110.14168",
)
ENTRIES = (GSM8K, replace(GSM8K, name="gsm8k-100", count=100))
