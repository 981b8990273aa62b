"""One pass over the data rows: what they hold, what is dropped, and which tokens are learned in which language."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data_recipes.languages import language_of
from data_recipes.report import SIZES
from data_recipes.vocabulary import choose_vocabulary, coverages
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, TextPart, VideoPart
from vlm_eagle.data.preparation import Preparation
from vlm_eagle.safe_text import visible

FORMAT = "vlm_eagle.data_report/1"
EXAMPLES = 3  # rows named for each reason of dropping
BINS = 20
MEDIA = {ImagePart: "images", VideoPart: "videos"}


@dataclass
class DataStatistics:
    """What the rows hold. Numbers of tokens are those of kept rows, after truncation to the longest length.

    Attributes:
        counts: language -> (V,) how often each token is learned.
        dropped: reason -> rows that cannot be used.
        examples: reason -> what is wrong with the first few of them.
        lengths: tokens of each kept sample.
        supervised: learned tokens of each.
        image_tokens: those of images and videos.
        answers: of all kept samples.
        media: images and videos in kept samples, and how many samples have any.
        languages: of answers -> samples, tokens and supervised tokens.
        chosen: data rows of some kept samples, drawn at random.
    """

    counts: dict[str, np.ndarray]
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lengths: list[int] = field(default_factory=list)
    supervised: list[int] = field(default_factory=list)
    image_tokens: int = 0
    answers: int = 0
    media: Counter[str] = field(default_factory=lambda: Counter(samples=0, images=0, videos=0))
    languages: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    chosen: list[int] = field(default_factory=list)

    @property
    def read(self) -> int:
        """All rows, kept or dropped."""
        return len(self.lengths) + self.dropped.total()


def collect(
    preparation: Preparation, vocab_size: int, samples: int = 0, seed: int = 0,
    on_drop: Callable[[int, BadRow], Any] = lambda row, error: None,
) -> DataStatistics:  # fmt: skip
    """Reads all rows once.

    Args:
        preparation: the rows.
        vocab_size: V.
        samples: how many kept rows to draw into `chosen`.
        seed: of that draw.
        on_drop: is called with every dropped row's number and error.
    """
    found = DataStatistics(counts={"und": np.zeros(vocab_size, np.int64)})
    draw = random.Random(seed)
    for i, row in enumerate(preparation):
        if row.reason:
            error = preparation.explain(i)
            found.dropped[row.reason] += 1
            if len(found.examples[row.reason]) < EXAMPLES:
                found.examples[row.reason].append(visible(str(error)))
            on_drop(i, error)
            continue
        conversation = preparation.dataset[i]
        assert isinstance(conversation, Conversation), "a bad row has a reason"
        language = language_of(" ".join(answer_texts(conversation)))
        counts = found.counts.setdefault(language, np.zeros(vocab_size, np.int64))
        np.add.at(counts, row.token_ids, row.token_counts)
        found.languages[language].update(samples=1, tokens=row.length, supervised=row.supervised)
        found.lengths.append(row.length)
        found.supervised.append(row.supervised)
        found.image_tokens += row.image_tokens
        found.answers += sum(message.role == "assistant" for message in conversation.messages)
        media = [MEDIA[type(part)] for m in conversation.messages for part in m.content if type(part) in MEDIA]
        found.media.update(media, samples=bool(media))
        _reservoir(found.chosen, i, len(found.lengths), samples, draw)
    found.chosen.sort()
    assert found.read == len(preparation.dataset), found
    return found


def summarise(found: DataStatistics, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Everything that was counted, as one JSON object. `sizes` of the draft vocabulary are cut to the target's."""
    total = np.sum(list(found.counts.values()), axis=0)
    tokens, supervised = sum(found.lengths), sum(found.supervised)
    languages = sorted(found.languages.items(), key=lambda item: (-item[1]["supervised"], item[0]))
    counts = {name: torch.from_numpy(found.counts[name]) for name in dict(languages) or found.counts}
    return {
        "format": FORMAT,
        "read": found.read,
        "kept": len(found.lengths),
        "dropped": dict(found.dropped.most_common()),
        "examples": dict(found.examples),
        "tokens": tokens,
        "supervised": supervised,
        "supervised_share": _share(supervised, tokens),
        "image_tokens": found.image_tokens,
        "image_share": _share(found.image_tokens, tokens),
        "answers": found.answers,
        "media": dict(found.media),
        "lengths": _distribution(found.lengths),
        "answer_lengths": _distribution(found.supervised),
        "languages": {name: {**one, "share": _share(one["supervised"], supervised)} for name, one in languages},
        "different_answer_tokens": int((total > 0).sum()),
        "target_vocab_size": len(total),
        "vocabulary": [
            {"size": size, **coverages(counts, choose_vocabulary(counts, size))}
            for size in sorted({min(size, len(total)) for size in sizes})
        ],
    }


def answer_texts(conversation: Conversation) -> Iterator[str]:
    """The text of every answer."""
    for message in conversation.messages:
        if message.role == "assistant":
            yield "".join(part.text for part in message.content if isinstance(part, TextPart))


def _reservoir(chosen: list[int], row: int, seen: int, size: int, draw: random.Random) -> None:
    """Algorithm R (Vitter, 1985): after every call `chosen` is a uniform sample of the rows seen."""
    if len(chosen) < size:
        chosen.append(row)
    elif size and (at := draw.randrange(seen)) < size:
        chosen[at] = row


def _share(part: int, whole: int) -> float:
    return round(part / whole, 5) if whole else 0.0


def _distribution(lengths: Sequence[int]) -> dict[str, Any]:
    """Mean, quantiles, and a histogram whose last bin holds the largest value."""
    if not lengths:
        return {"mean": 0.0, "quantiles": {}, "histogram": []}
    values = np.array(lengths)
    quantiles = np.quantile(values, (0, 0.1, 0.5, 0.9, 0.99, 1), method="inverted_cdf")
    width = max(-(-(int(values.max()) + 1) // BINS), 1)
    counts = np.bincount(values // width)
    return {
        "mean": round(float(values.mean()), 2),
        "quantiles": dict(zip(("min", "p10", "p50", "p90", "p99", "max"), map(int, quantiles), strict=True)),
        "histogram": [{"from": i * width, "below": (i + 1) * width, "samples": int(n)} for i, n in enumerate(counts)],
    }
