"""Statistics as one JSON object, which the tables, the page and the file on disk all say."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_recipes.report import SIZES
from data_recipes.report.statistics import DataStatistics, by_tokens, vocabulary_coverage

FORMAT = "vlm_eagle.data_report/1"
BINS = 20


def summarise(found: DataStatistics, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Everything that was counted. `sizes` of the draft vocabulary are cut to the target's."""
    vocab_size = len(found.all_counts)
    return {
        "format": FORMAT,
        "read": found.read,
        "kept": found.kept,
        "dropped": dict(found.dropped.most_common()),
        "examples": dict(found.examples),
        "tokens": found.tokens,
        "supervised": found.supervised,
        "supervised_share": _share(found.supervised, found.tokens),
        "image_tokens": found.image_tokens,
        "image_share": _share(found.image_tokens, found.tokens),
        "answers": found.turns,
        "media": {name: found.media[name] for name in ("samples", "images", "videos")},
        "lengths": _distribution(found.lengths),
        "answer_lengths": _distribution(found.answers),
        "languages": {
            name: asdict(found.languages[name]) | {"share": _share(found.languages[name].supervised, found.supervised)}
            for name in by_tokens(found)
        },
        "different_answer_tokens": int((found.all_counts > 0).sum()),
        "target_vocab_size": vocab_size,
        "vocabulary": [vocabulary_coverage(found, size) for size in sorted({min(size, vocab_size) for size in sizes})],
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 5) if whole else 0.0


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Mean, quantiles, and a histogram whose last bin holds the largest value."""
    if not len(values):
        return {"mean": 0.0, "quantiles": {}, "histogram": []}
    quantiles = np.quantile(values, (0, 0.1, 0.5, 0.9, 0.99, 1), method="inverted_cdf")
    width = max(-(-(int(values.max()) + 1) // BINS), 1)
    counts = np.bincount(values // width)
    return {
        "mean": round(float(values.mean()), 2),
        "quantiles": dict(zip(("min", "p10", "p50", "p90", "p99", "max"), map(int, quantiles), strict=True)),
        "histogram": [{"from": i * width, "below": (i + 1) * width, "samples": int(n)} for i, n in enumerate(counts)],
    }
