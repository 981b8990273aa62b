"""A data report as one HTML file that needs nothing else: no script, no network, pictures inside."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from data_recipes.languages import language_of
from data_recipes.report.statistics import answer_texts
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, VideoPart
from vlm_eagle.data.images import open_image
from vlm_eagle.data.spans import learned_tokens, pieces
from vlm_eagle.safe_text import visible

PICTURES = 4  # of a sample; a page of a hundred samples should stay a few megabytes
EDGE = 256  # pixels
CHARACTERS = 6000  # of a piece


def render(summary: dict[str, Any], samples: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """The page. Everything that data says is escaped, and its control characters are written out.

    Args:
        summary: from `summarise`.
        samples: to be shown, from `shown_sample`.
        about: what the report is on: title -> value.
    """
    environment = Environment(
        loader=PackageLoader("data_recipes.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(summary=summary, samples=samples, about=about)


def shown_sample(sample: Conversation, collator: VisionCollator) -> dict[str, Any]:
    """What the page shows of a usable sample: which tokens are learned, which are only read, and thumbnails of its pictures."""
    encoded = collator.token_layout(sample)
    ids, learned = encoded["input_ids"][0].tolist(), learned_tokens(encoded["loss_mask"][0])
    media = [part for message in sample.messages for part in message.content if isinstance(part, (ImagePart, VideoPart))]
    images = [image for part in media for image in _images(part)]
    return {
        "id": sample.id,
        "source": sample.source,
        "language": language_of(" ".join(answer_texts(sample))),
        "tokens": len(ids),
        "learned": sum(learned),
        "pieces": [
            {"text": _truncated(piece.text), "count": piece.count, "learned": piece.learned}
            for piece in pieces(ids, learned, collator.tokenizer)
        ],
        "pictures": [_thumbnail(image, sample.source) for image in images[:PICTURES]],
        "more_pictures": max(len(images) - PICTURES, 0),
    }


def _images(part: ImagePart | VideoPart) -> list[Path | Image.Image]:
    if isinstance(part, ImagePart):
        return [part.image]
    return list(part.video) if isinstance(part.video, tuple) else []


def _thumbnail(image: Path | Image.Image, source: str) -> dict[str, Any]:
    """A data URL and the whole picture's size, or the problem with it."""
    try:
        picture = open_image(image, source)
    except BadRow as error:
        return {"url": None, "problem": str(error)}
    size = picture.size
    picture.thumbnail((EDGE, EDGE))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=70)
    return {"url": "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), "size": size}


def _truncated(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} … ({len(text) - CHARACTERS:,} characters more)"
