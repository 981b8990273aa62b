"""UltraChat-200k: dialogues of ChatGPT with itself on many subjects, filtered for Zephyr.

`train_sft` has 207,865 rows, `train_gen` 256,032; together the 464K of EAGLE-3's paper (arXiv 2503.01840).
"""

from data_recipes.readers import openai
from data_recipes.recipe import Recipe

_ABOUT = {
    "origin": "HuggingFaceH4/ultrachat_200k",
    "licence": "mit",
    "schema": '{"prompt": text, "prompt_id": hash, "messages": [{"content": text, "role": "user" | "assistant"}]}',
    "languages": ("en",),
    "modality": "text",
    "read": openai.read,
}

RECIPES = (
    Recipe(
        name="ultrachat",
        about="Synthetic dialogues of several turns on many subjects (UltraChat-200k, split train_sft).",
        size="208,000 conversations, Parquet",
        split="train_sft",
        files=("data/train_sft-*.parquet",),
        **_ABOUT,
    ),
    Recipe(
        name="ultrachat-gen",
        about="The other half of UltraChat-200k (split train_gen), which EAGLE-3 trained on as well.",
        size="256,000 conversations, Parquet",
        split="train_gen",
        files=("data/train_gen-*.parquet",),
        **_ABOUT,
    ),
)
