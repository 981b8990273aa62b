"""MATH-500: the 500 competition problems of "Let's Verify Step by Step", the problem alone, as SpecForge's benchmark
asks it."""

from ..entry import Entry, Question, Row


def _question(row: Row) -> Question:
    return row.ask(row.text("problem"), id=row.values.get("unique_id"), category=row.text_or_none("subject"))


ENTRIES = (
    Entry(
        name="math500",
        hub="HuggingFaceH4/MATH-500",
        schema="unique_id; problem; solution; answer; subject; level",
        question=_question,
        size=500,
        max_new_tokens=2048,
        licence="MIT",
        citation="Hendrycks et al. 2021, arXiv:2103.03874; Lightman et al. 2023, arXiv:2305.20050",
    ),
)
