"""ShareGPT-Chinese-English-90k: users' conversations with ChatGPT, each in Chinese and in English, in parallel files.

Turns come as pairs. Categories are files: common_zh_70k, common_en_70k, computer_zh_26k, computer_en_26k, unknow_zh_38k, some
with `_continue`. A conversation that ends with a question has a pair without an answer.
"""

from typing import Any

from data_recipes.readers.turns import Turn, items_of, text_of
from data_recipes.recipe import Recipe


def read(row: Any, source: str) -> list[Turn]:
    """The turns of a row of pairs.

    Raises:
        BadRow: the row is not in this schema.
    """
    turns = []
    for pair in items_of(row, ("conversation",), source):
        turns.append(Turn("user", (text_of(pair.get("human"), source),)))
        if pair.get("assistant") is not None:
            turns.append(Turn("assistant", (text_of(pair["assistant"], source),)))
    return turns


RECIPES = (
    Recipe(
        name="sharegpt-zh-en",
        about="Users' conversations with ChatGPT in Chinese and English, parallel (ShareGPT-Chinese-English-90k).",
        origin="shareAI/ShareGPT-Chinese-English-90k",
        licence="apache-2.0",
        size="about 90,000 conversations, most in both languages; JSONL files by category and language",
        schema='{"conversation_id": ..., "category": ..., "conversation": [{"human": text, "assistant": text}]}',
        languages=("zh", "en"),
        modality="text",
        read=read,
        files=("sharegpt_jsonl/*.jsonl",),
    ),
)
