"""MMStar: 1,500 questions that cannot be answered without the image, asked with their options.

The Parquet file's `question` ends with `Options: A: ..., B: ...`; a peer cuts it off there and asks something else. The
TSV's rows have the options in columns. A row with neither is refused.
"""

from ..entry import Entry, Question, Row
from ..multiple_choice import with_options


def _question(row: Row) -> Question:
    question = row.text("question")
    if not question.strip():
        raise row.bad("empty question", "the question is blank")
    if row.has("A", "B"):
        question = with_options(question, [row.text(letter) for letter in "ABCD" if row.has(letter)])
    elif "Options:" not in question:
        raise row.bad("no options", "the question holds no 'Options:', and there are no columns A, B, C, D")
    return row.ask(row.picture("image"), question, id=row.values.get("index"), category=row.text_or_none("category"))


ENTRIES = (
    Entry(
        name="mmstar",
        hub="Lin-Chen/MMStar",
        split="val",
        files=("mmstar.parquet",),
        schema="index; question with 'Options: A: ..., B: ...' in it (or columns A to D); image; category",
        question=_question,
        size=1500,
        max_new_tokens=2048,  # SpecForge's
        modality="image",
        licence="not stated",
        citation="Chen et al. 2024, arXiv:2403.20330",
    ),
)
