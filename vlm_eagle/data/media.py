"""How many tokens images and videos become, from their headers alone, and the pixel budget that decides it.

The processor's own arithmetic is asked, in the order in which a sample goes through it: qwen_vl_utils resizes, then the
image or video processor resizes what came out, which need not be the same when a picture is much longer than wide.
"""

import hashlib
from pathlib import Path
from typing import Any

from qwen_vl_utils import smart_resize
from qwen_vl_utils.vision_process import FRAME_FACTOR, MODEL_SEQ_LEN, VIDEO_MAX_TOKEN_NUM, ceil_by_factor
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as smart_resize_video

from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, TextPart, VideoPart
from vlm_eagle.data.images import upright_size
from vlm_eagle.data.videos import Clip, read_clip
from vlm_eagle.errors import UserError

Header = tuple[int, int] | Clip | str  # an image's (width, height); a frame list; a video file's content, as a digest


def set_pixel_budget(
    processor: ProcessorMixin | PreTrainedTokenizerBase, min_pixels: int | None = None, max_pixels: int | None = None
) -> None:
    """Makes `processor` scale every image and video frame into min_pixels .. max_pixels; None keeps its own limit.

    Raises:
        UserError: a budget that no image can meet, or a processor without images.
    """
    if min_pixels is None and max_pixels is None:
        return
    images = getattr(processor, "image_processor", None)
    if images is None:
        raise UserError("data.min_pixels and data.max_pixels are for vision targets; this target reads text only.")
    low, high = image_budget(processor)
    high = high if max_pixels is None else max_pixels
    low = min(low, high) if min_pixels is None else min_pixels
    unit = (images.patch_size * images.merge_size) ** 2
    if not 0 < low <= high or high < unit:
        raise UserError(
            f"min_pixels is {low} and max_pixels {high}. One image token is {unit} pixels: give 0 < min_pixels <= max_pixels, "
            f"and a max_pixels of at least {unit}."
        )
    images.size = {"shortest_edge": low, "longest_edge": high}


def pixel_budget(processor: object) -> tuple[int, int] | None:
    """(min_pixels, max_pixels) of a processor's images; None for a text-only target."""
    return None if getattr(processor, "image_processor", None) is None else image_budget(processor)


def image_budget(processor: Any) -> tuple[int, int]:
    """(min_pixels, max_pixels) of a processor that has images."""
    size = processor.image_processor.size
    return size["shortest_edge"], size["longest_edge"]


def read_headers(conversation: Conversation) -> tuple[Header, ...]:
    """All that token counts depend on, of each image and video in order, read from the files at every call.

    Raises:
        BadRow: a file is missing, or its header says that it cannot be used.
    """
    source, headers = conversation.source, []
    for part in (part for message in conversation.messages for part in message.content if not isinstance(part, TextPart)):
        if isinstance(part, ImagePart):
            headers.append(upright_size(part.image, source))
        elif isinstance(part.video, tuple):
            headers.append(Clip(tuple(upright_size(frame, source) for frame in part.video), part.fps))
        else:
            headers.append(_digest(part.video, source))
    return tuple(headers)


def image_tokens(size: tuple[int, int], processor: ProcessorMixin, source: str) -> int:
    """Tokens of an image of (width, height).

    Raises:
        BadRow: too long for the processor once it is resized.
    """
    images: Any = processor.image_processor
    low, high = image_budget(processor)
    unit, (width, height) = images.patch_size * images.merge_size, size
    try:
        resized = smart_resize(height, width, factor=unit, min_pixels=low, max_pixels=high)
        return images.get_number_of_image_patches(*resized, {}) // images.merge_size**2
    except (ValueError, ZeroDivisionError) as error:
        raise BadRow(source, "image too long", f"an image of {width} x {height} pixels cannot be resized: {error}") from None


def clip_tokens(clip: Clip, processor: ProcessorMixin, source: str) -> tuple[list[float], int]:
    """(seconds at which each pair of frames stands, tokens of a pair) of a list of frames.

    Raises:
        BadRow: the frames differ in size, or cannot be resized.
    """
    images: Any = processor.image_processor
    videos: Any = processor.video_processor
    low, high = image_budget(processor)
    unit = images.patch_size * images.merge_size
    try:  # qwen_vl_utils.fetch_video: each frame in coarser steps, then all of them
        budget = {"min_pixels": low, "max_pixels": high}
        sizes = {smart_resize(height, width, factor=2 * unit, **budget) for width, height in clip.sizes}
        if len(sizes) > 1:
            raise ValueError(f"frames are of {len(sizes)} sizes")
        count = ceil_by_factor(len(clip.sizes), FRAME_FACTOR)
        share = MODEL_SEQ_LEN * 0.9 / count * FRAME_FACTOR
        limit = max(min(VIDEO_MAX_TOKEN_NUM, share) * unit**2, int(low * 1.05))
        resized = smart_resize(*sizes.pop(), factor=unit, min_pixels=low, max_pixels=min(high, limit))
        patches = video_patches(videos, count, *resized)
    except (ValueError, ZeroDivisionError) as error:
        raise BadRow(source, "video broken", f"{len(clip.sizes)} frames cannot be resized: {error}") from None
    step = videos.temporal_patch_size
    pairs = range(0, count, step)
    seconds = [(first + min(first + step, count) - 1) / 2 / clip.fps for first in pairs]
    return seconds, patches // len(pairs) // videos.merge_size**2


def video_patches(videos: Any, frames: int, height: int, width: int) -> int:
    """Patches that the processor makes of a video."""
    if hasattr(videos, "get_num_of_video_patches"):  # transformers 5.17
        return videos.get_num_of_video_patches(frames, height, width, {})
    step, patch = videos.temporal_patch_size, videos.patch_size
    height, width = smart_resize_video(
        frames, height, width, temporal_factor=step, factor=patch * videos.merge_size,
        min_pixels=videos.size["shortest_edge"], max_pixels=videos.size["longest_edge"],
    )  # fmt: skip
    return -(-frames // step) * (height // patch) * (width // patch)


def clip_of(video: VideoPart, header: Header, source: str) -> Clip:
    """The frames of a video, counted if it is a file.

    Raises:
        BadRow: the file cannot be read.
    """
    if isinstance(header, Clip):
        return header
    try:
        assert isinstance(video.video, Path), "frames have a header of their own"
        return read_clip(video.video)
    except Exception as error:  # FFmpeg's errors are of many types
        raise BadRow(source, "video broken", f"{video.video}: {error}") from error


def _digest(file: Path, source: str) -> str:
    try:
        with file.open("rb") as stream:
            digest = hashlib.blake2b(digest_size=16)
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except FileNotFoundError:
        raise BadRow(source, "video missing", f"{file} does not exist") from None
    except OSError as error:
        raise BadRow(source, "video broken", f"{file}: {error}") from None
