"""LLaVA's own sets: captions for pretraining, and OneVision's single-image mixture with its pictures in the Parquet rows."""

from data_recipes.readers import llava
from data_recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="llava-pretrain",
        about="Short web captions of pictures from LAION, CC and SBU (LLaVA-Pretrain, LCS-558K).",
        origin="liuhaotian/LLaVA-Pretrain",
        licence="other: the terms of CC-3M for its pictures, of BLIP for the captions",
        size="558,128 conversations; JSON array of 181 MB, pictures in images.zip of 27 GB",
        schema='{"id": ..., "image": "00453/0045.jpg", "conversations": [{"from": "human", "value": "...\\n<image>"}, ...]}',
        languages=("en",),
        modality="pictures",
        read=llava.read,
        files=("blip_laion_cc_sbu_558k.json",),
        archives=("images.zip",),
    ),
    Recipe(
        name="llava-onevision",
        about="OneVision's mixture of some 90 sets, one folder each; pick some with --files 'vision_flan(filtered)/*.parquet'.",
        origin="lmms-lab/LLaVA-OneVision-Data",
        licence="apache-2.0; its parts have their own",
        size="about 4 million conversations, Parquet with the pictures inside",
        schema='{"id": ..., "image": {"bytes": ..., "path": ...} or null, "conversations": [...], "data_source": ...}',
        languages=("en", "zh"),
        modality="pictures",
        read=llava.read,
        files=("*/train-*.parquet",),
    ),
)
