"""Answers for the page: the same question under all settings is one sample; who wrote each token is in two lists of counts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_eagle.evaluation.reporting.inputs import ReportInput, is_shown
from vlm_eagle.evaluation.reporting.text import shorten, visible
from vlm_eagle.evaluation.reporting.thumbnails import Thumbnails
from vlm_eagle.evaluation.result_schema import TurnResult

QUESTION_LIMIT, PIECE_LIMIT = 2000, 400  # characters
TOKEN_LIMITS = (4096, 2048, 1024, 512, 256, 128, 64, 32)  # shown of an answer, the largest that fits


@dataclass
class Sample:
    """One question and its answers: (number of the setting, turn)."""

    benchmark: str
    folder: Path
    answers: list[tuple[int, TurnResult]] = field(default_factory=list)


def collect(found: ReportInput, limit: int) -> tuple[list[Sample], int]:
    """At most `limit` samples to show, equally many of each benchmark as far as there are; and how many there were."""
    samples: dict[tuple[Any, ...], Sample] = {}
    for number, (setting, file) in enumerate(zip(found.settings, found.setting_files, strict=True)):
        for benchmark in setting.benchmarks:
            times: Counter[tuple[str, int]] = Counter()
            for turn in benchmark.prompts:
                place = turn.id, turn.turn
                times[place] += 1
                if is_shown(turn):
                    key = (benchmark.name, *place, times[place], turn.question)
                    samples.setdefault(key, Sample(benchmark.name, file.parent)).answers.append((number, turn))
    by_benchmark: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples.values():
        by_benchmark[sample.benchmark].append(sample)
    shares = _shares([len(rows) for rows in by_benchmark.values()], limit)
    chosen = [
        rows[i * len(rows) // count] for rows, count in zip(by_benchmark.values(), shares, strict=True) for i in range(count)
    ]
    return chosen, len(samples)


def _shares(sizes: Sequence[int], limit: int) -> list[int]:
    """How many of each, with `limit` in all: equal, and what small ones leave goes to the large ones."""
    shares, left = [0] * len(sizes), limit
    for rank, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[i] = min(sizes[i], left // (len(sizes) - rank))
        left -= shares[i]
    return shares


def page_data(samples: Sequence[Sample], thumbnails: Thumbnails, budget: int) -> tuple[list[dict[str, Any]], int]:
    """What the page's script reads, in about `budget` characters, and how many tokens of an answer it shows at most.

    Keys: b benchmark, id, turn, q question, im numbers of pictures, no reasons for missing ones, a distinct answers as lists of
    pieces, r results as [setting, number of the answer, committed, accepted, tokens of the whole answer].
    """
    rows = [_row(sample, thumbnails) for sample in samples]
    limit = TOKEN_LIMITS[0]
    for limit in TOKEN_LIMITS:
        if sum(len(piece.encode()) + 4 for row in rows for answer in row["a"] for piece in answer[:limit]) <= budget:
            break
    for row in rows:
        row["a"] = [list(answer[:limit]) for answer in row["a"]]
    return rows, limit


def _row(sample: Sample, thumbnails: Thumbnails) -> dict[str, Any]:
    first, distinct, results = sample.answers[0][1], {}, []
    pictures = [thumbnails.add(image, sample.folder) for image in first.images]
    for setting, turn in sample.answers:
        pieces = tuple(shorten(visible(piece), PIECE_LIMIT) for piece in turn.pieces or ())
        number = distinct.setdefault(pieces, len(distinct))
        results.append([setting, number, turn.committed, turn.accepted, 1 + turn.num_committed])
    return {
        "b": visible(sample.benchmark), "id": visible(shorten(first.id, 200)), "turn": first.turn,
        "q": visible(shorten(first.question, QUESTION_LIMIT)),
        "im": [number for number in pictures if isinstance(number, int)],
        "no": sorted({reason for reason in pictures if isinstance(reason, str)}),
        "a": list(distinct), "r": results,
    }  # fmt: skip
