"""How many tokens an image will become, read from its header."""

from pathlib import Path

from PIL import Image
from qwen_vl_utils import smart_resize
from transformers import BaseImageProcessor


def image_tokens(image: Path | Image.Image, processor: BaseImageProcessor) -> int:
    """Tokens of one image after resizing into the processor's pixel budget; 0 for one that cannot be read."""
    try:
        width, height = image.size if isinstance(image, Image.Image) else _size(image)
        unit = processor.patch_size * processor.merge_size
        budget = {"min_pixels": processor.size["shortest_edge"], "max_pixels": processor.size["longest_edge"]}
        height, width = smart_resize(height, width, factor=unit, **budget)
    except (OSError, ValueError):
        return 0
    return (height // unit) * (width // unit)


def _size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)
