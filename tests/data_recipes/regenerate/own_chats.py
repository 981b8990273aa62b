"""Small data for the tests of regeneration."""

import json
from pathlib import Path
from typing import Any

from PIL import Image


def turns(*texts: str, system: str | None = None, image: str | None = None) -> list[dict[str, Any]]:
    """Messages in which user and assistant speak by turns; an image comes with the first question."""
    messages = [{"role": "system", "content": system}] if system else []
    for i, text in enumerate(texts):
        content: Any = text
        if i == 0 and image:
            content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        messages.append({"role": ("user", "assistant")[i % 2], "content": content})
    return messages


def write(file: Path, rows: list[Any]) -> Path:
    """A JSONL file; a row that is a string is written as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def picture(file: Path, color: str = "red") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), color).save(file)


def mixed_rows(folder: Path, count: int = 12) -> list[dict[str, Any]]:
    """Text and images, one to three turns, some without a last answer."""
    rows = []
    for i in range(count):
        image = None
        if i % 3 == 0:
            image = f"images/{i}.png"
            picture(folder / image, ("red", "green", "blue")[i % 9 // 3])
        texts = [f"{kind} {i}.{turn}" for turn in range(i % 3 + 1) for kind in ("question", "old answer")]
        rows.append({"id": f"row-{i}", "messages": turns(*texts[: len(texts) - i % 2], image=image)})
    return rows


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def spoken(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of every message."""
    return [(m["role"], "".join(part.get("text", "") for part in m["content"])) for m in row["messages"]]
