"""MMMU: college exam questions in 30 subjects, up to seven images each, the validation split.

`<image 1>` in the question or in an option is where `image_1` stands. Multiple-choice questions get their options; open
ones have none. Which prompt AngelSlim's table used was not published.
"""

import re

from ..entry import Entry, Question, Row
from ..multiple_choice import interleaved, parse_options, with_options
from ..pictures import RowPicture

IMAGES = 7


def _question(row: Row) -> Question:
    asked = row.text("question")
    if not asked.strip():
        raise row.bad("empty question", "the question is blank")
    given = row.get("options") if row.has("options") else []
    options = parse_options(given, row.source) if isinstance(given, str) else row.texts("options") if given else []
    names = {number: f"image_{number}" for number in range(1, IMAGES + 1)}
    used: set[int] = set()

    def picture(number: int) -> RowPicture:
        used.add(number)
        return row.picture(names.get(number, f"image_{number}"))

    parts = interleaved(with_options(asked, options), picture)
    unplaced = [row.picture(name) for number, name in names.items() if number not in used and row.has(name)]
    id_ = row.values.get("id")
    subject = re.fullmatch(r"(?:validation|test|dev)_(.+)_\d+", id_) if isinstance(id_, str) else None
    return row.ask(*unplaced, *parts, id=id_, category=subject[1] if subject else row.text_or_none("subfield"))


ENTRIES = (
    Entry(
        name="mmmu",
        hub="MMMU/MMMU",
        split="validation",
        files=("*/validation-*.parquet",),
        local=("*/validation-*.parquet",),
        schema="id; question with <image N>; options, a list as text; image_1 ... image_7",
        question=_question,
        size=900,
        max_new_tokens=2048,
        modality="image",
        licence="Apache-2.0",
        citation="Yue et al. 2023, arXiv:2311.16502",
    ),
)
