"""ChartQA: questions about charts, the test split. The question alone, as MMSpec asks (`mmspec.py`): benchmarks that score
answers add "answer with a single word", after which there is nothing to draft."""

from ..entry import Entry, Question, Row


def _question(row: Row) -> Question:
    kind = row.text_or_none("type")
    if kind is None and row.has("human_or_machine"):
        kind = {"0": "human", "1": "machine"}.get(row.text("human_or_machine"))
    return row.ask(row.picture("image"), row.text("query", "question"), category=kind)


ENTRIES = (
    Entry(
        name="chartqa",
        hub="HuggingFaceM4/ChartQA",
        schema="image; query (or question); label; human_or_machine (or type)",
        question=_question,
        size=2500,
        max_new_tokens=512,
        modality="image",
        licence="GPL-3.0",
        citation="Masry et al. 2022, arXiv:2203.10244",
    ),
)
