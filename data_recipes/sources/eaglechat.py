"""EagleChat: ShareGPT, UltraChat-200k and smoltalk-chinese, unified and shuffled for training EAGLE drafts.

It is already in the form SpecForge trains on: the list is called `conversations`, its fields `role` and `content`.
"""

from data_recipes.readers import sharegpt
from data_recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="eaglechat",
        about="ShareGPT, UltraChat-200k and smoltalk-chinese in one; both taobao-mnn drafts were trained on it.",
        origin="zhaode/EagleChat",
        licence="apache-2.0",
        size="1,039,104 conversations, JSONL",
        schema='{"id": ..., "conversations": [{"role": "user" | "assistant" | "system", "content": text}]}',
        languages=("zh", "en"),
        modality="text",
        read=sharegpt.read,
    ),
)
