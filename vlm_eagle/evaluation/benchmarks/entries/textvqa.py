"""TextVQA: questions about text in photographs, the validation split. The question alone, as MMSpec asks (`mmspec.py`)."""

from ..entry import Entry, Question, Row


def _question(row: Row) -> Question:
    return row.ask(row.picture("image"), row.text("question"), id=row.values.get("question_id"))


ENTRIES = (
    Entry(
        name="textvqa",
        hub="lmms-lab/textvqa",
        split="validation",
        schema="image; question; question_id; answers; ocr_tokens",
        question=_question,
        size=5000,
        max_new_tokens=512,
        modality="image",
        licence="CC BY 4.0",
        citation="Singh et al. 2019, arXiv:1904.08920",
    ),
)
