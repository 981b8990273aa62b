"""Second pass, in parallel: what must be known of every conversation to choose among them and to report on them."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import repeat
from pathlib import Path

import numpy as np

from data_recipes.duplicates import PERMUTATIONS, signature
from data_recipes.languages import language_of

CHUNK = 512  # rows to a task
NO_ROW: dict = {"messages": []}
Span = tuple[int, int, np.ndarray]  # bytes of the file from and to, and which of the rows in them are wanted


@dataclass(frozen=True)
class Facts:
    """Columns over N conversations.

    Attributes:
        language: (N,) of ISO 639-1 codes, of the answers.
        question: (N,) int32, characters of the user's and system's messages.
        answer: (N,) int32, characters of the assistant's messages.
        turns: (N,) int32, the assistant's messages.
        pictures: (N,) int32.
        signature: (N, 128) uint16, see `duplicates`.
    """

    language: np.ndarray
    question: np.ndarray
    answer: np.ndarray
    turns: np.ndarray
    pictures: np.ndarray
    signature: np.ndarray


def measure(file: Path, offsets: np.ndarray, alive: np.ndarray, workers: int, step: Callable[[int], None]) -> Facts:
    """The facts of all rows of a spool; those of rows that were let go are empty. `step` is called with the rows done."""
    starts = range(0, len(alive), CHUNK)
    spans = [(int(offsets[i]), int(offsets[min(i + CHUNK, len(alive))]), alive[i : i + CHUNK]) for i in starts]
    found, done = [_facts_of([])], 0
    for facts in _mapped(file, spans, workers):
        found.append(facts)
        done += len(facts.turns)
        step(done)
    return Facts(**{f.name: np.concatenate([getattr(facts, f.name) for facts in found]) for f in fields(Facts)})


def _mapped(file: Path, spans: list[Span], workers: int) -> Iterator[Facts]:
    if workers < 2 or len(spans) < 4:  # starting a process costs more than a few chunks
        yield from map(_measured, repeat(file), spans)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_measured, repeat(file), spans)


def _measured(file: Path, span: Span) -> Facts:
    start, end, alive = span
    with file.open("rb") as stream:
        stream.seek(start)
        lines = stream.read(end - start).splitlines()
    return _facts_of([json.loads(line) if wanted else NO_ROW for line, wanted in zip(lines, alive.tolist(), strict=True)])


def _facts_of(rows: list[dict]) -> Facts:
    texts = [_texts(row) for row in rows]
    pictures = [[part["image"] for m in row["messages"] for part in _parts(m) if part["type"] == "image"] for row in rows]
    numbers = lambda values: np.array(list(values), dtype=np.int32)
    signatures = [
        signature(f"{asked}\n{answered}", "".join(names)) for (asked, answered), names in zip(texts, pictures, strict=True)
    ]
    return Facts(
        language=np.array([language_of(answered) for _, answered in texts], dtype="<U3"),
        question=numbers(len(asked) for asked, _ in texts),
        answer=numbers(len(answered) for _, answered in texts),
        turns=numbers(sum(m["role"] == "assistant" for m in row["messages"]) for row in rows),
        pictures=numbers(len(names) for names in pictures),
        signature=np.array(signatures, dtype=np.uint16).reshape(-1, PERMUTATIONS),
    )


def _texts(row: dict) -> tuple[str, str]:
    """What is asked and what is answered in a conversation."""
    sides: dict[bool, list[str]] = {True: [], False: []}
    for message in row["messages"]:
        sides[message["role"] == "assistant"] += [part["text"] for part in _parts(message) if part["type"] == "text"]
    return "\n".join(sides[False]), "\n".join(sides[True])


def _parts(message: dict) -> list[dict]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
