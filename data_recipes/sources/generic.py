"""Readers for your own files, by their schema. They have no origin: say where the data lies with --source."""

from data_recipes.readers import llava, openai, sharegpt
from data_recipes.recipe import Recipe

_ABOUT = {"origin": "", "licence": "that of your data", "size": "that of your data", "languages": ()}

RECIPES = (
    Recipe(
        name="format-sharegpt",
        about="Your own file in the ShareGPT schema.",
        schema='{"conversations": [{"from": "human" | "gpt" | "system", "value": text}]}',
        modality="text",
        read=sharegpt.read,
        **_ABOUT,
    ),
    Recipe(
        name="format-messages",
        about="Your own file of OpenAI messages, with pictures or without; our own data files are such.",
        schema='{"messages": [{"role": "user" | "assistant" | "system", "content": text or [parts]}]}',
        modality="pictures",
        read=openai.read,
        **_ABOUT,
    ),
    Recipe(
        name="format-llava",
        about="Your own file in the LLaVA schema, pictures beside it in a folder or in zip files.",
        schema='{"image": path or [paths], "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}',
        modality="pictures",
        read=llava.read,
        **_ABOUT,
    ),
)
