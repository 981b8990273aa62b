"""Open-PerfectBlend: an open rebuilding of the blend of arXiv 2409.20370 out of chat, mathematics, code and instructions."""

from data_recipes.readers import sharegpt
from data_recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="perfectblend",
        about="Chat, mathematics, code and instruction following in the proportions of 'The Perfect Blend'.",
        origin="mlabonne/open-perfectblend",
        licence="apache-2.0; its parts have their own",
        size="1.42 million conversations, Parquet",
        schema='{"conversations": [{"from": "human" | "gpt" | "system", "value": text}], "source": the part\'s name}',
        languages=("en",),
        modality="text",
        read=sharegpt.read,
        files=("data/train-*.parquet",),
    ),
)
