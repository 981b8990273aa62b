"""Second pass, in parallel: what must be known of every conversation to choose among them and to report on them."""

import json
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.conversion import parts_of
from data_recipes.duplicates import PERMUTATIONS, signature
from data_recipes.languages import language_of

CHUNK = 512  # rows to a task
# Language of the answers (ISO 639-1), characters of questions and system prompt, characters of answers, answers, pictures, and
# the signature of `duplicates`
FACTS = np.dtype(
    [
        ("language", "U3"), ("question", "i4"), ("answer", "i4"), ("turns", "i4"), ("pictures", "i4"),
        ("signature", "u2", (PERMUTATIONS,)),
    ]
)  # fmt: skip


def measure(file: Path, offsets: np.ndarray, alive: np.ndarray, workers: int) -> Iterator[np.ndarray]:
    """(n,) of `FACTS` for each chunk of the rows of a RowBuffer's file; those of rows that are not alive are empty."""
    chunks = [(int(offsets[i]), alive[i : i + CHUNK]) for i in range(0, len(alive), CHUNK)]
    measured = partial(_measured, file)
    if workers < 2 or len(chunks) < 4:  # starting a process costs more than a few chunks
        yield from map(measured, chunks)
        return
    # Ctrl-C reaches all processes of a terminal; only this one answers it
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), **quiet) as pool:
        yield from pool.map(measured, chunks)


def _measured(file: Path, chunk: tuple[int, np.ndarray]) -> np.ndarray:
    start, alive = chunk
    with file.open("rb") as stream:
        stream.seek(start)
        lines = list(islice(stream, len(alive)))
    empty = {"messages": []}
    return np.array([_facts(json.loads(line) if wanted else empty) for line, wanted in zip(lines, alive, strict=True)], FACTS)


def _facts(row: dict[str, Any]) -> tuple[Any, ...]:
    asked, answered, pictures = [], [], []
    for message in row["messages"]:
        side = answered if message["role"] == "assistant" else asked
        for part in parts_of(message):
            if part["type"] == "text":
                side.append(part["text"])
            else:
                pictures.append(part["image"])
    question, answer = "\n".join(asked), "\n".join(answered)
    turns = sum(message["role"] == "assistant" for message in row["messages"])
    found = signature(f"{question}\n{answer}", "".join(pictures))
    return language_of(answer), len(question), len(answer), turns, len(pictures), found
