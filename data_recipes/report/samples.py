"""Samples for the page: what is learned, what is only read, and their pictures, small."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data_recipes.languages import language_of
from data_recipes.report.statistics import answer_texts
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, VideoPart
from vlm_eagle.data.images import open_image
from vlm_eagle.data.spans import Piece, learned_tokens, pieces

PICTURES = 4  # of a sample; a page of a hundred samples should stay a few megabytes
EDGE = 256  # pixels
CHARACTERS = 6000  # of a piece


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a data URL, or why there is none; `size` is the whole picture's."""

    url: str | None
    size: tuple[int, int] | None
    problem: str | None = None


@dataclass(frozen=True)
class ShownSample:
    """What the page shows of a sample."""

    source: str
    id: str
    language: str
    tokens: int
    learned: int
    pieces: list[Piece]
    pictures: list[Picture]
    more_pictures: int


def shown(sample: Conversation, collator: VisionCollator) -> ShownSample:
    """A sample that can be used, with the pixels of its first pictures."""
    encoded = collator.token_layout(sample)
    ids, learned = encoded["input_ids"][0].tolist(), learned_tokens(encoded["loss_mask"][0])
    text = [Piece(_cut(piece.text), piece.count, piece.learned) for piece in pieces(ids, learned, collator.tokenizer)]
    media = [part for message in sample.messages for part in message.content if isinstance(part, (ImagePart, VideoPart))]
    images = [image for part in media for image in _images(part)]
    return ShownSample(
        sample.source, sample.id, language_of(" ".join(answer_texts(sample))), len(ids), sum(learned), text,
        [_thumbnail(image, sample.source) for image in images[:PICTURES]], max(len(images) - PICTURES, 0),
    )  # fmt: skip


def _images(part: ImagePart | VideoPart) -> list[Path | Image.Image]:
    if isinstance(part, ImagePart):
        return [part.image]
    return list(part.video) if isinstance(part.video, tuple) else []


def _thumbnail(image: Path | Image.Image, source: str) -> Picture:
    try:
        picture = open_image(image, source)
    except BadRow as error:
        return Picture(None, None, str(error))
    size = picture.size
    picture.thumbnail((EDGE, EDGE))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=70)
    return Picture("data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), size)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} … ({len(text) - CHARACTERS:,} characters more)"
