"""What identifies a prompt, wherever it stands in its file: its content. Seeds and the journal hang on it."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.conversation import Conversation, ImagePart, Part, TextPart
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.scores.journal import digest
from vlm_eagle.provenance import write_bytes

DEFAULT_LENGTH = 160  # tokens of an answer at most, where neither the user nor the benchmark says
QUESTION = 2000  # characters of a question that results keep
_PICTURE = 768  # pixels on the longer side of a picture from memory that results keep


def answer_length(given: int | None, benchmark: Benchmark) -> int:
    """Tokens an answer may have: what the user gave, else the benchmark's own habit."""
    return given or benchmark.max_new_tokens or DEFAULT_LENGTH


def check_length(given: int | None) -> None:
    """Raises UserError if answers may have no token at all."""
    if given is not None and given < 1:
        raise UserError(f"max_new_tokens must be at least 1, found {given}.")


def check_names(benchmarks: Sequence[Benchmark]) -> None:
    """Raises UserError where two benchmarks have one name, because results are kept by it."""
    names = [benchmark.name for benchmark in benchmarks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"Several benchmarks are called {', '.join(twice)}. Results are kept by name: rename a file, or leave one out."
        )


def content(prompt: Prompt) -> str:
    """A digest of all that is asked: texts, images, later turns. Not of the prompt's id or place."""
    parts = [[message.role, [_part(part) for part in message.content]] for message in prompt.conversation.messages]
    return digest([parts, list(prompt.follow_ups)])


def seed_of(seed: int, prompt: str, turn: int) -> int:
    """31 bits from the run's seed, the prompt's `content` and the turn, so that order and batches decide nothing."""
    return int(digest([seed, prompt, turn])[:8], 16) >> 1


def question(conversation: Conversation) -> str:
    """The text of the last message, shortened."""
    text = "".join(part.text for part in conversation.messages[-1].content if isinstance(part, TextPart))
    return text if len(text) <= QUESTION else text[: QUESTION - 3] + "..."


def image_files(conversation: Conversation, results: Path) -> list[str]:
    """The images' files, relative to the folder of `results` where they are inside it. A picture that exists in memory alone is
    written, reduced, to a folder beside it."""
    images = [part.image for message in conversation.messages for part in message.content if isinstance(part, ImagePart)]
    files = [_written(image, results) if isinstance(image, Image.Image) else Path(image) for image in images]
    return list(_named(files, results.parent.resolve()))


def _named(files: Iterable[Path], folder: Path) -> Iterable[str]:
    for file in files:
        resolved = file.resolve()
        inside = resolved.is_relative_to(folder)
        yield (resolved.relative_to(folder) if inside else resolved).as_posix()


def _written(picture: Image.Image, results: Path) -> Path:
    file = results.with_name(f"{results.stem}_images") / f"{_digest(picture)[:20]}.jpg"
    if not file.is_file():
        small, data = picture.convert("RGB"), io.BytesIO()
        small.thumbnail((_PICTURE, _PICTURE))
        small.save(data, format="JPEG", quality=85)
        write_bytes(file, data.getvalue())
    return file


def _part(part: Part) -> Any:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ImagePart):
        return ["image", _digest(part.image)]
    frames = part.video if isinstance(part.video, tuple) else [part.video]
    return ["video", [_digest(frame) for frame in frames], part.fps]


def _digest(media: Path | Image.Image) -> str:
    """Of a file's bytes or of pixels."""
    if isinstance(media, Image.Image):
        return hashlib.sha256(f"{media.mode} {media.size}".encode() + media.tobytes()).hexdigest()
    try:
        return hashlib.sha256(Path(media).read_bytes()).hexdigest()
    except OSError:
        return "missing"
