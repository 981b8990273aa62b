"""MMSpec: the benchmark for speculative decoding of vision-language models, six tasks of 100 samples each.

Rows are `{"id": "mmspec_313", "image": "mmspec_313.jpg", "turns": [...], "category": ..., "topic": ...}` in
`mmspec.jsonl`, images in `images/` beside; `topic` tells the tasks apart. As its evaluation does: the image before the
text of the first turn, the text as it is (options and `<image 1>` included), later turns after the model's own answers,
1,024 new tokens at most. Its system prompt, which is Vicuna's, is not used: the target's own chat template decides.

The data lies in the paper's repository, not on the Hub. The repository's latest state has `caption_marker_test/` alone,
generated annotations of other images; what is read here is `test/` (600 rows) or `testmini/` (60). Its README calls the
chart task "chart understanding", as do its rows; the code's comment says "chart qa", which is read as well.
"""

from ..entry import Entry, Question, Row
from .mt_bench import turns

TOPICS = {
    "mmspec-gqa": ("general vqa",),
    "mmspec-textvqa": ("text vqa",),
    "mmspec-coco": ("image captioning",),
    "mmspec-charxiv": ("chart understanding", "chart qa"),
    "mmspec-mmmu-pro": ("complex reasoning pro", "complex reasoning"),
    "mmspec-multi-turn": ("multi-turn conversation",),
}


def _task(name: str) -> Entry:
    def question(row: Row) -> Question | None:
        if row.text("topic").strip().lower() not in TOPICS[name]:
            return None
        asked = turns(row)
        return row.ask(
            row.picture("image"), *asked.parts, id=row.values.get("id"), follow_ups=asked.follow_ups, category=asked.category
        )

    return Entry(
        name=name,
        split="test",
        local=("mmspec.jsonl", "test/mmspec.jsonl", "dataset/MMSpec/test/mmspec.jsonl"),
        schema="id; image, a file in images/; turns; category; topic",
        question=question,
        size=100,
        max_new_tokens=1024,
        modality="image",
        licence="those of its sources",
        citation="Shen et al. 2026, arXiv:2603.14989",
        obtain="Clone github.com/killthefullmoon/MMSpec (the state that has dataset/MMSpec/test) and give that folder.",
    )


ENTRIES = tuple(_task(name) for name in TOPICS)
