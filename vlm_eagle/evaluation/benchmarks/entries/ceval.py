"""C-Eval: Chinese exam questions with four options in 52 subjects, the validation split.

Zero-shot: C-Eval's own opening line (without the subject's Chinese name, which rows do not hold), the question, the
options. Its closing `答案:` is left out, because a chat template opens the answer itself. The subject is read off the
file's name: on the Hub `accountant/val-00000-of-00001.parquet`, in the archive `val/accountant_val.csv`.

`ceval-104` is two questions of each subject, 104 in all, as in the card of Zjcxy-SmartAI/Eagle3-Qwen3-8B-zh, which does
not name them: drawn by seed. How taobao-mnn asked and drew C-Eval and CMMLU was not published.
"""

import re
from dataclasses import replace
from pathlib import PurePosixPath

from ..entry import Entry, Question, Row
from ..multiple_choice import with_options

OPENING = "以下是单项选择题,请选出其中的正确答案。"
_SPLIT = r"(val|validation|test|dev)"


def subject_of(file: PurePosixPath) -> str | None:
    """The subject that a file belongs to; None where neither its name nor its folder says."""
    if found := re.fullmatch(rf"(.+?)[_-]{_SPLIT}", file.stem):
        return found[1]
    folders = [name for name in reversed(file.parts[:-1]) if not re.fullmatch(_SPLIT, name)]
    if re.fullmatch(rf"{_SPLIT}(-\d+-of-\d+)?|\d+", file.stem):  # the folder names the subject
        return folders[0] if folders else None
    return file.stem if file.parent.name in ("val", "test", "dev") else None


def chinese_choice(row: Row, question: str, opening: str) -> Question:
    """A question with options A to D; the subject is its category, and part of its id where rows are counted by subject."""
    subject = row.text_or_none("subject", "category") or subject_of(row.file)
    number = next((row.values[name] for name in ("id", "", "Unnamed: 0") if row.has(name)), None)
    id_ = f"{subject}-{row.text('id', '', 'Unnamed: 0')}" if subject and isinstance(number, (str, int)) else None
    asked = row.text(question)
    if not asked.strip():
        raise row.bad("empty question", "the question is blank")
    return row.ask(f"{opening}\n\n{with_options(asked, [row.text(letter) for letter in 'ABCD'])}", id=id_, category=subject)


CEVAL = Entry(
    name="ceval",
    hub="ceval/ceval-exam",
    split="val",
    files=("*/val-*.parquet",),
    local=("*/val-*.parquet", "val/*_val.csv"),
    schema="id; question; A; B; C; D; answer; the subject in the file's path, or subject",
    question=lambda row: chinese_choice(row, "question", OPENING),
    size=1346,
    max_new_tokens=2048,  # card of Eagle3-Qwen3-8B-zh
    languages=("zh",),
    licence="CC BY-NC-SA 4.0",
    citation="Huang et al. 2023, arXiv:2305.08322",
)
ENTRIES = (CEVAL, replace(CEVAL, name="ceval-104", per_category=2))
