"""How much of a prompt the caches hold already, so that a chat's next turn does not read its images again."""

import hashlib
from dataclasses import replace
from itertools import accumulate, groupby

from transformers import PretrainedConfig

from vlm_eagle.records import Batch


def image_spans(batch: Batch, config: PretrainedConfig) -> list[tuple[int, int]]:
    """Half-open ranges of every image's tokens in a batch of one."""
    is_image = (batch.input_ids[0] == getattr(config, "image_token_id", -1)).tolist()
    runs = [(image, len(list(run))) for image, run in groupby(is_image)]
    ends = accumulate(length for _, length in runs)
    return [(end - length, end) for (image, length), end in zip(runs, ends, strict=True) if image]


def image_digests(batch: Batch) -> list[str]:
    """A hash of every image's patches and grid."""
    if "image_grid_thw" not in batch.vision_inputs:
        return []
    grids = batch.vision_inputs["image_grid_thw"]
    patches = batch.vision_inputs["pixel_values"].split(grids.prod(-1).tolist())
    return [
        hashlib.sha256(repr(grid).encode() + part.float().cpu().contiguous().numpy().tobytes()).hexdigest()
        for grid, part in zip(grids.tolist(), patches, strict=True)
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
        pixels, grids = vision_inputs.pop("pixel_values"), vision_inputs.pop("image_grid_thw")
        seen = sum(first < start for first, _ in image_spans(batch, config))
        if seen < len(grids):
            skipped = int(grids[:seen].prod(-1).sum())
            vision_inputs |= {"pixel_values": pixels[skipped:], "image_grid_thw": grids[seen:]}
    return replace(batch, vision_inputs=vision_inputs).from_position(start)
