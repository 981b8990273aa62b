"""MT-bench: 80 two-turn conversations in eight categories, and its Chinese version.

The founding documents ask both turns, the second after the model's own answer to the first. `turns` as FastChat has it,
or `prompt` as HuggingFaceH4/mt_bench_prompts renamed it. EAGLE and AngelSlim keep GSM8K, HumanEval and Alpaca in the
same form (`question.jsonl`), so those entries read it too, by `turns_or`.

Which Chinese translation the card of Zjcxy-SmartAI/Eagle3-Qwen3-8B-zh used was not published (theirs is by Tongyi
Qianwen, corrected by hand). The entry reads GeneZC's (by GPT-4, corrected by hand); HIT-SCIR/huozi has another in the
same form.
"""

from collections.abc import Callable

from ..entry import Entry, Question, Row


def turns(row: Row) -> Question:
    """The first turn, the others as follow-ups."""
    asked = row.texts("turns", "prompt")
    if not asked:
        raise row.bad("empty question", "there is no turn")
    return row.ask(
        asked[0],
        id=row.values.get("question_id", row.values.get("prompt_id")),
        follow_ups=asked[1:],
        category=row.text_or_none("category"),
    )


def turns_or(own: Callable[[Row], Question]) -> Callable[[Row], Question]:
    """A reader of a benchmark's own schema that reads EAGLE's `question.jsonl` as well."""
    return lambda row: turns(row) if row.has("turns") else own(row)


_COMMON = {
    "schema": "turns (or prompt): [text, text]; category; question_id (or prompt_id)",
    "question": turns,
    "size": 80,
    "max_new_tokens": 512,  # card of Eagle3-Qwen3-8B-zh
    "split": "train",
    "local": ("question.jsonl", "data/train-*.parquet"),  # not FastChat's reference_answer/ and model_judgment/
}
ENTRIES = (
    Entry(
        name="mt-bench",
        hub="lighteval/mt-bench",
        licence="Apache-2.0",
        citation="Zheng et al. 2023, arXiv:2306.05685",
        **_COMMON,
    ),
    Entry(
        name="mt-bench-zh",
        hub="GeneZC/MT-Bench-ZH",
        files=("data/mt_bench_zh/question.jsonl",),
        languages=("zh",),
        licence="Apache-2.0",
        citation="GeneZC/MiniMA, mt_bench_zh; after Zheng et al. 2023, arXiv:2306.05685",
        **_COMMON,
    ),
)
