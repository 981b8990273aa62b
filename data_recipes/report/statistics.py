"""One pass over the data rows: what they hold, what is dropped, and which tokens are learned in which language."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data_recipes.languages import language_of
from data_recipes.report.text import printable
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, TextPart, VideoPart
from vlm_eagle.data.preparation import Preparation
from vlm_eagle.draft.vocab import DraftVocab, coverage, ranked

EXAMPLES = 3  # rows named for each reason of dropping
MEDIA = {ImagePart: "images", VideoPart: "videos"}


@dataclass
class LanguageShare:
    """Kept samples whose answers are in one language, their tokens and learned tokens."""

    samples: int = 0
    tokens: int = 0
    supervised: int = 0


@dataclass
class DataStatistics:
    """What the rows hold. Numbers of tokens are those of kept rows, after cutting to the longest length.

    Attributes:
        read: all rows; kept + dropped.
        kept: rows that can be used.
        dropped: reason -> rows that cannot.
        examples: reason -> what is wrong with the first few of them.
        tokens: of all kept samples.
        supervised: those that are learned.
        image_tokens: those of images and videos.
        turns: answers of all kept samples.
        media: images and videos in kept samples, and how many samples have any.
        languages: of answers.
        lengths: (n,) tokens of each kept sample.
        answers: (n,) learned tokens of each.
        counts: language -> (V,) how often each token is learned.
        chosen: data rows of some kept samples, drawn at random.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    tokens: int = 0
    supervised: int = 0
    image_tokens: int = 0
    turns: int = 0
    media: Counter = field(default_factory=Counter)
    languages: dict[str, LanguageShare] = field(default_factory=lambda: defaultdict(LanguageShare))
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    answers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)

    @property
    def all_counts(self) -> torch.Tensor:
        """(V,) int64, how often each token is learned, in whatever language."""
        return torch.from_numpy(sum(self.counts.values()))


def collect(
    preparation: Preparation, vocab_size: int, samples: int = 0, seed: int = 0,
    drop: Callable[[int, BadRow], Any] = lambda row, error: None,
) -> DataStatistics:  # fmt: skip
    """Reads all rows once.

    Args:
        preparation: the rows.
        vocab_size: V.
        samples: how many kept rows to draw into `chosen`.
        seed: of that draw.
        drop: is told every dropped row and why.
    """
    found, draw = DataStatistics(), random.Random(seed)
    lengths, answers = [], []
    found.counts["und"] = np.zeros(vocab_size, np.int64)
    for i, row in enumerate(preparation):
        found.read += 1
        if row.reason:
            error = preparation.explain(i)
            found.dropped[row.reason] += 1
            if len(found.examples[row.reason]) < EXAMPLES:
                found.examples[row.reason].append(printable(str(error)))
            drop(i, error)
            continue
        conversation = preparation.dataset[i]
        language = language_of(" ".join(answer_texts(conversation)))
        counts = found.counts.setdefault(language, np.zeros(vocab_size, np.int64))
        np.add.at(counts, row.token_ids, row.token_counts)
        share = found.languages[language]
        for part in (found, share):
            part.tokens += row.length
            part.supervised += row.supervised
        found.kept += 1
        share.samples += 1
        found.image_tokens += row.image_tokens
        found.turns += sum(message.role == "assistant" for message in conversation.messages)
        found.media.update(_media(conversation))
        lengths.append(row.length)
        answers.append(row.supervised)
        _reservoir(found.chosen, i, found.kept, samples, draw)
    found.lengths, found.answers = np.array(lengths, np.int32), np.array(answers, np.int32)
    found.chosen.sort()
    assert found.read == len(preparation.dataset) == found.kept + sum(found.dropped.values()), found
    return found


def answer_texts(conversation: Conversation) -> Iterator[str]:
    """The text of every answer."""
    for message in conversation.messages:
        if message.role == "assistant":
            yield "".join(part.text for part in message.content if isinstance(part, TextPart))


def vocabulary_coverage(found: DataStatistics, size: int) -> dict[str, Any]:
    """Coverage of the most frequent `size` tokens, over all answers and by language."""
    counts = found.all_counts
    vocab = DraftVocab.from_ids(ranked(counts)[:size], len(counts))
    by_language = {name: coverage(torch.from_numpy(found.counts[name]), vocab) for name in by_tokens(found)}
    return {"size": size, "overall": coverage(counts, vocab), "by_language": by_language}


def by_tokens(found: DataStatistics) -> list[str]:
    """The languages, the one with most learned tokens first."""
    return sorted(found.languages, key=lambda name: (-found.languages[name].supervised, name))


def _media(conversation: Conversation) -> Counter:
    kinds = Counter(MEDIA[type(part)] for m in conversation.messages for part in m.content if type(part) in MEDIA)
    return kinds + Counter(samples=1 if kinds else 0)


def _reservoir(chosen: list[int], row: int, seen: int, size: int, draw: random.Random) -> None:
    """Algorithm R (Vitter, 1985): after every call `chosen` is a uniform sample of the rows seen."""
    if len(chosen) < size:
        chosen.append(row)
    elif size and (at := draw.randrange(seen)) < size:
        chosen[at] = row
