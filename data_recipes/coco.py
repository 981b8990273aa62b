"""COCO captions: photographs with five short captions each, one file with a table of images and one of annotations.

From cocodataset.org: annotations_trainval2017.zip and train2017.zip; give the folder that holds `captions_train2017.json` and
the pictures (a folder or the zip file). Its validation pictures are a benchmark of the field (MMSpec): use the training ones.
A picture becomes one conversation, so that its five captions do not count as five prompts; the question asks for a description,
which is what a regenerated answer gives. `lmms-lab/COCO-Caption` and its relatives (Parquet, `answer` a list) are read as well.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_recipes.readers import MessageDict, check_object, image_part, text_part
from data_recipes.stream import JSON_SUFFIXES, Row, data_files, file_rows, name_of
from vlm_eagle.data.conversation import BadRow

QUESTIONS = (
    "Describe this image in detail.",
    "What is happening in this picture? Describe the scene.",
    "Write a detailed description of the photo for someone who cannot see it.",
    "Describe the objects in this image, their surroundings and how they relate to each other.",
)


def stream_coco(source: str | Path, split: str = "train", *, files: tuple[str, ...] = ()) -> Iterator[Row]:
    """One row per image, with its captions; an annotation whose image is not in the table is a BadRow."""
    for file in data_files(source, split, files=files):
        name = name_of(file, source)
        yield from _joined(file, name) if Path(file).suffix in JSON_SUFFIXES else file_rows(file, name)


def read_coco(row: Any, source: str) -> list[MessageDict]:
    """A question and, as its answer, the longest caption; BadRow if the row has no picture or no caption."""
    check_object(row, source)
    captions = row.get("captions", row.get("answer"))
    if not isinstance(captions, list) or not captions:
        raise BadRow(source, "no caption", "the image has no caption")
    picture = row.get("image", row.get("file_name"))
    if picture is None:
        raise BadRow(source, "image missing", "the row names no image")
    answer = max((text_part(caption, source) for caption in captions), key=lambda part: len(part["text"]))
    digest = hashlib.sha256(answer["text"].encode("utf-8", "replace")).digest()
    question = text_part(QUESTIONS[digest[0] % len(QUESTIONS)], source)
    return [{"role": "user", "content": [image_part(picture), question]}, {"role": "assistant", "content": [answer]}]


def _joined(file: str, name: str) -> Iterator[Row]:
    captions: dict[int | str, list] = {}
    for source, row in file_rows(file, f"{name}:annotations", "annotations"):
        if isinstance(row, BadRow):
            yield source, row
        elif isinstance(row, dict) and isinstance(row.get("image_id"), int | str):
            captions.setdefault(row["image_id"], []).append(row.get("caption"))
        else:
            yield source, BadRow(source, "bad annotation", "expected an object with image_id and caption")
    for source, row in file_rows(file, f"{name}:images", "images"):
        known = isinstance(row, dict) and isinstance(row.get("id"), int | str)
        yield source, {"image": row.get("file_name"), "captions": captions.pop(row["id"], [])} if known else row
    source = f"{name}:annotations"
    for image in captions:
        detail = f"annotations of image {str(image)[:40]}, which is not in the table of images"
        yield source, BadRow(source, "image missing", detail)
