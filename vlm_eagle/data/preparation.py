"""What training must know of every data row before it begins: length, supervised tokens, counts of answer tokens, or why it
cannot be used. Rows are tokenised as in training; of images only headers are read.

Worker processes prepare rows in chunks, which come back in order, so memory does not grow with the data. Chunks go to a
`PreparedCache`, where other runs (also of a killed one) find them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset, ignore_interrupts
from vlm_eagle.data.media import Header, read_headers
from vlm_eagle.data.prepared_cache import PreparedCache
from vlm_eagle.data.token_layout import IMAGE_PAD, VIDEO_PAD
from vlm_eagle.errors import UserError

CHUNK = 512  # rows
SCHEMA = pa.schema(
    {
        "reason": pa.string(), "length": pa.int32(), "supervised": pa.int32(), "image_tokens": pa.int32(),
        "token_ids": pa.list_(pa.int32()), "token_counts": pa.list_(pa.int32()),
    }
)  # fmt: skip


@dataclass(frozen=True)
class PreparedRow:
    """One data row as training will see it.

    Attributes:
        reason: why it cannot be used; None for a good row. Numbers are 0 for a bad one.
        length: tokens, image tokens included, at most the collator's `max_length`.
        supervised: supervised positions.
        image_tokens: tokens of images and videos.
        token_ids: (n,) the different tokens that are learned, ascending.
        token_counts: (n,) how often each occurs.
    """

    reason: str | None
    length: int = 0
    supervised: int = 0
    image_tokens: int = 0
    token_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    token_counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass
class Prepared:
    """All rows together.

    Attributes:
        lengths: tokens of every row, 0 for a bad one.
        counts: (V,) int64, how often each token is learned.
        dropped: reason -> rows.
    """

    lengths: list[int]
    counts: Tensor
    dropped: Counter


def nothing_to_learn(dropped: Counter) -> UserError:
    """The error for data without any answer token; `dropped` is reason -> rows."""
    reasons = ", ".join(f"{reason} {n}" for reason, n in dropped.most_common())
    return UserError(f"The data holds no answer token to learn. Rows by reason: {reasons}. `vlm-eagle preview` shows them.")


class Preparation:
    """The rows of `dataset`, prepared as `collator` will encode them. Iterate for a `PreparedRow` per data row, in order."""

    def __init__(
        self, dataset: ConversationDataset, collator: VisionCollator, *, cache: PreparedCache | None = None, workers: int = 0,
        done: Callable[[int], None] = lambda rows: None,
    ):  # fmt: skip
        """`workers` processes prepare chunks (0: this one); `done` is called with the size of every finished chunk."""
        self.dataset, self.collator, self.workers, self.done = dataset, collator, workers, done
        self.chunks = _Chunks(dataset, collator, cache)

    def __iter__(self) -> Iterator[PreparedRow]:
        for table in self._tables(range(len(self.chunks))):
            yield from _rows(table)
            self.done(table.num_rows)

    def share(self, rank: int, ranks: int) -> None:
        """Puts this process's share of the chunks into the cache."""
        for _ in self._tables(range(rank, len(self.chunks), ranks)):
            pass

    def summary(self, vocab_size: int) -> Prepared:
        """All rows, added up.

        Raises:
            BadRow: the first bad row, if the collator is strict.
        """
        lengths, counts, dropped = [], np.zeros(vocab_size, np.int64), Counter()
        for i, row in enumerate(self):
            if row.reason and self.collator.strict:
                raise self.explain(i)
            lengths.append(row.length)
            np.add.at(counts, row.token_ids, row.token_counts)
            dropped.update([row.reason] if row.reason else [])
        return Prepared(lengths, torch.from_numpy(counts), dropped)

    def explain(self, index: int) -> BadRow:
        """The full error of a row that is bad."""
        sample = self.dataset[index]
        try:
            _encode(sample, _headers(sample, self.collator), self.collator)
        except BadRow as error:
            return error.as_value()
        return BadRow(getattr(sample, "source", ""), "changed", "the row's files changed while they were read; start again")

    def _tables(self, order: Sequence[int]) -> Iterator[pa.Table]:
        workers = min(self.workers, len(order) - 1)  # a single chunk is not worth a process
        options = {"num_workers": max(workers, 0), "worker_init_fn": ignore_interrupts}
        for table in DataLoader(self.chunks, sampler=order, batch_size=None, **options):
            if isinstance(table, UserError):
                raise table
            yield table


class _Chunks(Dataset):
    """Item i is the table of the i-th `CHUNK` rows, from the cache if possible."""

    def __init__(self, dataset: ConversationDataset, collator: VisionCollator, cache: PreparedCache | None):
        self.dataset, self.collator, self.cache = dataset, collator, cache

    def __len__(self) -> int:
        return -(-len(self.dataset) // CHUNK)

    def __getitem__(self, chunk: int) -> pa.Table | UserError:
        rows = range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self.dataset)))
        lines = [self.dataset.line(row) for row in rows]
        samples = [self.dataset.parse(row, line) for row, line in zip(rows, lines, strict=True)]
        headers = [_headers(sample, self.collator) for sample in samples]
        if self.cache is None:
            return self._prepare(samples, headers)
        facts = [_facts(sample, header) for sample, header in zip(samples, headers, strict=True)]
        key = self.cache.key(zip(lines, facts, strict=True))
        table = self.cache.read(key, SCHEMA, len(rows))
        try:
            return table if table is not None else self.cache.write(key, self._prepare(samples, headers))
        except UserError as error:
            return error  # raised by a worker process it would lose its message

    def _prepare(self, samples: Iterable[Conversation | BadRow], headers: Iterable[Sequence[Header] | BadRow]) -> pa.Table:
        rows = [prepare_row(sample, found, self.collator) for sample, found in zip(samples, headers, strict=True)]
        return pa.Table.from_pydict({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


def prepare_row(sample: Conversation | BadRow, headers: Sequence[Header] | BadRow, collator: VisionCollator) -> PreparedRow:
    """One row, given the headers of its media (or what is wrong with them)."""
    try:
        encoded = _encode(sample, headers, collator)
    except BadRow as error:
        return PreparedRow(error.reason)
    ids, supervised = encoded["input_ids"][0].numpy(), encoded["loss_mask"][0].numpy()
    pads = collator.tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD])
    token_ids, token_counts = np.unique(ids[1:][supervised[:-1]], return_counts=True)
    media = int(np.isin(ids, pads).sum()) if collator.vision else 0
    return PreparedRow(None, len(ids), int(supervised.sum()), media, token_ids, token_counts)


def _encode(sample: Conversation | BadRow, headers: Sequence[Header] | BadRow, collator: VisionCollator) -> dict[str, Tensor]:
    if isinstance(sample, BadRow):
        raise sample
    collator.check(sample)
    if isinstance(headers, BadRow):
        raise headers
    return collator.token_layout(sample, headers)


def _headers(sample: Conversation | BadRow, collator: VisionCollator) -> Sequence[Header] | BadRow:
    if isinstance(sample, BadRow) or collator.vision is None:
        return ()
    try:
        return read_headers(sample)
    except BadRow as error:
        return error.as_value()


def _facts(sample: Conversation | BadRow, headers: Sequence[Header] | BadRow) -> object:
    """All that the row's preparation depends on besides its text and the collator. A bad file is represented by its reason: the
    same text can be good or bad, depending on the files."""
    if isinstance(sample, BadRow):
        return sample.reason
    return headers.reason if isinstance(headers, BadRow) else tuple(headers)


def _rows(table: pa.Table) -> Iterator[PreparedRow]:
    numbers = [table[name].to_pylist() for name in ("reason", "length", "supervised", "image_tokens")]
    lists = []
    for name in ("token_ids", "token_counts"):
        column = table[name].combine_chunks()
        lists.append(np.split(column.values.to_numpy(), column.offsets.to_numpy()[1:-1]))
    return (PreparedRow(*values) for values in zip(*numbers, *lists, strict=True))
