"""ALLaVA-4V: long captions, and questions with long answers, written by GPT-4V (arXiv 2402.11684).

Rows name pictures as `allava_laion/images/100277305.jpeg`; those of LAION lie in `allava_laion/image_chunks/images_0.zip` to
`images_9.zip`, those of Vision-FLAN come from that dataset (see ALLaVA's download_vflan.sh) and are given as a folder.
"""

from data_recipes.readers import llava
from data_recipes.recipe import Recipe

_ABOUT = {
    "origin": "FreedomIntelligence/ALLaVA-4V",
    "licence": "apache-2.0 for the texts; pictures belong to their owners",
    "schema": '{"id": ..., "image": path, "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}',
    "languages": ("en",),
    "modality": "pictures",
    "read": llava.read,
}
_CHUNKS = ("allava_laion/image_chunks/images_*.zip",)

RECIPES = (
    Recipe(
        name="allava-caption",
        about="Long descriptions of pictures from the web (ALLaVA-Caption-LAION-4V).",
        size="505,588 conversations; JSON array of 1.2 GB, pictures in ten zip files",
        files=("allava_laion/ALLaVA-Caption-LAION-4V.json",),
        archives=_CHUNKS,
        **_ABOUT,
    ),
    Recipe(
        name="allava-instruct",
        about="Reasoned questions about the same pictures, with long answers (ALLaVA-Instruct-LAION-4V).",
        size="505,588 conversations; JSON array of 0.6 GB, pictures in ten zip files",
        files=("allava_laion/ALLaVA-Instruct-LAION-4V.json",),
        archives=_CHUNKS,
        **_ABOUT,
    ),
    Recipe(
        name="allava-vflan-caption",
        about="Long descriptions of Vision-FLAN's pictures (ALLaVA-Caption-VFLAN-4V).",
        size="202,552 conversations; pictures from Vision-FLAN",
        files=("allava_vflan/ALLaVA-Caption-VFLAN-4V.json",),
        **_ABOUT,
    ),
    Recipe(
        name="allava-vflan-instruct",
        about="Vision-FLAN's tasks with long answers (ALLaVA-Instruct-VFLAN-4V).",
        size="203,065 conversations; pictures from Vision-FLAN",
        files=("allava_vflan/ALLaVA-Instruct-VFLAN-4V.json",),
        **_ABOUT,
    ),
)
