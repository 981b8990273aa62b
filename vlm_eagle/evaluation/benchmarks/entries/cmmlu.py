"""CMMLU: Chinese exam questions with four options in 67 subjects, the test split. Asked like C-Eval.

The Hub repository itself is one archive; its Parquet conversion has a file per subject. Unpacked, the archive's
`test/agronomy.csv` has the columns (unnamed), Question, A, B, C, D, Answer.
"""

from ..entry import Entry
from .ceval import OPENING, chinese_choice

ENTRIES = (
    Entry(
        name="cmmlu",
        hub="haonan-li/cmmlu@refs/convert/parquet",
        files=("*/test/*.parquet",),
        local=("*/test/*.parquet", "test/*.csv"),
        schema="Question; A; B; C; D; Answer; the subject in the file's path, or subject",
        question=lambda row: chinese_choice(row, "Question", OPENING),
        size=11_582,
        max_new_tokens=2048,
        languages=("zh",),
        licence="CC BY-NC 4.0",
        citation="Li et al. 2023, arXiv:2306.09212",
    ),
)
