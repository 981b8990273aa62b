"""MathVista: mathematics in pictures, the testmini split. `query` is the benchmark's own zero-shot prompt: a hint, the
question, its unit and its choices. Rows without it get question and choices."""

from ..entry import Entry, Question, Row
from ..multiple_choice import with_options

LANGUAGES = {"english": "en", "chinese": "zh", "persian": "fa"}


def _question(row: Row) -> Question:
    metadata = row.values.get("metadata")
    about = metadata if isinstance(metadata, dict) else {}
    asked = row.text("query", "question")
    if asked.strip() and not row.has("query") and row.has("choices"):
        asked = with_options(asked, row.texts("choices"))
    kind = about.get("task")
    return row.ask(
        row.picture("decoded_image", "image"),
        asked,
        id=row.values.get("pid"),
        category=kind if isinstance(kind, str) else None,
        language=LANGUAGES.get(str(about.get("language")).lower()),
    )


ENTRIES = (
    Entry(
        name="mathvista",
        hub="AI4Math/MathVista",
        split="testmini",
        local=("data/testmini-*.parquet",),  # not annot_testmini.json, one object
        schema="pid; query (or question and choices); decoded_image (or image, a file); metadata.language, .task",
        question=_question,
        size=1000,
        max_new_tokens=2048,
        languages=("en", "zh", "fa"),
        modality="image",
        licence="CC BY-SA 4.0",
        citation="Lu et al. 2023, arXiv:2310.02255",
    ),
)
