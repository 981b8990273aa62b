"""ShareGPT: conversations of users with ChatGPT, cleaned to Markdown and cut into pieces.

Pieces of one conversation have ids `<conversation>_<piece>`; every piece but the first opens with an answer. EAGLE and EAGLE-3
draw 68,000 rows of the V4.3 file, which is what "ShareGPT-68K" means: `--total 68000`, as the mixes do.
"""

from data_recipes.readers import sharegpt
from data_recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="sharegpt",
        about="Conversations of users with ChatGPT, English for the most part (ShareGPT-68K is a draw from it).",
        origin="Aeala/ShareGPT_Vicuna_unfiltered",
        licence="apache-2.0 by its card; users shared their conversations with OpenAI's model",
        size="one JSON array of 464 MB, on the order of 100,000 pieces of conversations",
        schema='{"id": "QWJhYvA_0", "conversations": [{"from": "human" | "gpt" | ..., "value": text}]}',
        languages=("en",),
        modality="text",
        read=sharegpt.read,
        files=("ShareGPT_V4.3_unfiltered_cleaned_split.json",),
    ),
)
