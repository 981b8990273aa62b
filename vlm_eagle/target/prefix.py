"""How much of a prompt lies in the caches already: a chat's next turn does not read its images again."""

import hashlib
from dataclasses import replace
from itertools import accumulate

from torch import Tensor
from transformers import PretrainedConfig

from vlm_eagle.records import Batch


def image_spans(batch: Batch, config: PretrainedConfig) -> list[tuple[int, int]]:
    """(first, behind the last) position of every image's tokens in a batch of one."""
    is_image = (batch.input_ids[0] == getattr(config, "image_token_id", -1)).tolist()
    starts = [i for i, here in enumerate(is_image) if here and not (i and is_image[i - 1])]
    return [(i, next((j for j in range(i, len(is_image)) if not is_image[j]), len(is_image))) for i in starts]


def image_digests(batch: Batch) -> list[str]:
    """A hash of every image's patches and grid."""
    if "image_grid_thw" not in batch.vision_inputs:
        return []
    patches = batch.vision_inputs["pixel_values"].split(batch.vision_inputs["image_grid_thw"].prod(-1).tolist())
    return [
        hashlib.sha256(repr(grid).encode() + part.float().cpu().contiguous().numpy().tobytes()).hexdigest()
        for grid, part in zip(batch.vision_inputs["image_grid_thw"].tolist(), patches, strict=True)
    ]


def common_prefix(batch: Batch, config: PretrainedConfig, known: list[int], known_images: list[str]) -> int:
    """Tokens at the start of a prompt (B = 1) that equal `known` ones and show the same images; never ends inside an image.

    A prompt with a video shares nothing: its frames are spread over several blocks, and reading it again is always right.
    """
    if "video_grid_thw" in batch.vision_inputs:
        return 0
    ids = batch.input_ids[0].tolist()
    common = next((i for i, (a, b) in enumerate(zip(ids, known, strict=False)) if a != b), min(len(ids), len(known)))
    for number, ((first, end), digest) in enumerate(zip(image_spans(batch, config), image_digests(batch), strict=True)):
        if first < common and (end > common or known_images[number : number + 1] != [digest]):
            return first
    return common


def tail(batch: Batch, start: int, config: PretrainedConfig) -> Batch:
    """The batch (B = 1) from position `start` on, with the pixels of the images that begin there or later."""
    vision_inputs = dict(batch.vision_inputs)
    if "image_grid_thw" in vision_inputs:
        seen = sum(first < start for first, _ in image_spans(batch, config))
        grid: Tensor = vision_inputs["image_grid_thw"]
        patches = list(accumulate(grid.prod(-1).tolist(), initial=0))[seen]
        vision_inputs["pixel_values"], vision_inputs["image_grid_thw"] = vision_inputs["pixel_values"][patches:], grid[seen:]
        if seen == len(grid):
            del vision_inputs["pixel_values"], vision_inputs["image_grid_thw"]
    if "mm_token_type_ids" in vision_inputs:
        vision_inputs["mm_token_type_ids"] = vision_inputs["mm_token_type_ids"][:, start:]
    return replace(
        batch,
        input_ids=batch.input_ids[:, start:],
        attention_mask=batch.attention_mask[:, start:],
        loss_mask=batch.loss_mask[:, start:],
        vision_inputs=vision_inputs,
    )
