"""DocVQA: questions about scanned pages, the validation split. The question alone, as MMSpec asks (`mmspec.py`)."""

from ..entry import Entry, Question, Row


def _question(row: Row) -> Question:
    kinds = row.texts("question_types") if row.has("question_types") else ()
    return row.ask(row.picture("image"), row.text("question"), id=row.values.get("questionId"), category=", ".join(kinds))


ENTRIES = (
    Entry(
        name="docvqa",
        hub="lmms-lab/DocVQA",
        config="DocVQA",
        split="validation",
        local=("DocVQA/validation-*.parquet",),  # not InfographicVQA/
        schema="questionId; question; question_types; image; answers",
        question=_question,
        size=5349,
        max_new_tokens=512,
        modality="image",
        licence="not stated",
        citation="Mathew et al. 2020, arXiv:2007.00398",
    ),
)
