"""Where the features of data rows come from: the target itself, a store, or the target at first and then the store.

A source gives a DataLoader its dataset and collate function, and turns what the loader yields into features. `collate` runs in
the loader's worker processes and only makes tensors; what a source has to remember it notes in `features`, in the main process.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset, ignore_interrupts
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.feature_format import StoredSample, join, split
from vlm_eagle.training.feature_store import FeatureStore, FeatureWriter

Item = Batch | TargetFeatures | None  # what a loader yields; None, or empty, when no row of it can be used


class Source(Protocol):
    """See the module's text."""

    dataset: Any
    epochs: int | None  # after which `successor` takes over; None for a source that serves to the end

    def collate(self, rows: Sequence[Any]) -> Item:
        """Data rows to one item."""

    def features(self, item: Any, device: torch.device) -> TargetFeatures | None:
        """The features of an item, on `device`; None when it has no usable row. Called equally often in every process."""

    def successor(self) -> "Source":
        """The source that takes over after `epochs`."""
        ...

    def flush(self) -> None:
        """Puts on disk what has to be there, if anything."""


class OnlineSource:
    """The target runs over every batch."""

    epochs: int | None = None

    def __init__(
        self, target: Target, dataset: ConversationDataset, collator: VisionCollator, *, visual: bool, is_shared: bool
    ):
        """`visual` keeps visual embeddings; `is_shared`: other processes hold parts of the target's layers."""
        self.target, self.dataset, self.collator = target, dataset, collator
        self.visual, self.is_shared = visual, is_shared

    def collate(self, rows: Sequence[Conversation | BadRow]) -> Batch | None:
        """Conversations to a batch."""
        return self.collator(rows)

    def features(self, item: Batch | None, device: torch.device) -> TargetFeatures | None:
        """One target forward; with nothing to read, a shared target runs over one token, because the other processes wait in
        every layer for this one's part of it."""
        if item is not None and len(item):
            return self.target.features(item.to(device), visual=self.visual).to(device)
        if self.is_shared:
            one = torch.ones(1, 1, dtype=torch.long, device=device)
            self.target.features(Batch(input_ids=one, attention_mask=one, loss_mask=one == 0))
        return None

    def successor(self) -> "OnlineSource":
        """Itself."""
        return self

    def flush(self) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class NumberedBatch(Batch):
    """A batch that remembers which data rows it is made of.

    Attributes:
        rows: the usable samples' data rows.
        skipped_rows: (data row, name, reason) of the others.
    """

    rows: tuple[int, ...] = ()
    skipped_rows: tuple[tuple[int, str, str], ...] = ()


class EncodedRows(Dataset):
    """Data rows ready to be stacked: (row, name, the processor's tensors or the reason why there are none)."""

    def __init__(self, dataset: ConversationDataset, collator: VisionCollator):
        self.dataset, self.collator = dataset, collator

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[int, str, dict[str, Tensor] | str]:
        sample = self.dataset[row]
        try:
            if isinstance(sample, BadRow):
                raise sample
            return row, sample.id, self.collator.encode(sample)
        except BadRow as error:
            if self.collator.strict:
                raise
            return row, error.source, error.reason


class CapturingSource:
    """The target runs over every batch, and its features go to a store, from which they are read after the first epoch."""

    epochs: int | None = 1

    def __init__(
        self,
        target: Target,
        rows: EncodedRows,
        writer: FeatureWriter,
        folder: Path,
        accelerator: Accelerator,
    ):
        """`folder` is the store's, which `writer` writes."""
        self.target, self.dataset, self.writer, self.folder, self.accelerator = target, rows, writer, folder, accelerator

    def collate(self, rows: Sequence[tuple[int, str, Any]]) -> NumberedBatch:
        """Encoded rows to a batch of those that can be used."""
        used = [(row, name, encoded) for row, name, encoded in rows if not isinstance(encoded, str)]
        skipped = tuple((row, name, reason) for row, name, reason in rows if isinstance(reason, str))
        counts = dict(Counter(reason for _, _, reason in skipped))
        batch = self.dataset.collator.stack([(name, encoded) for _, name, encoded in used], counts)
        return NumberedBatch(**vars(batch), rows=tuple(row for row, _, _ in used), skipped_rows=skipped)

    def features(self, item: NumberedBatch, device: torch.device) -> TargetFeatures | None:
        """One target forward, whose result is then in the store, or on its way there."""
        for row, name, reason in item.skipped_rows:
            self.writer.skip(row, name, reason)
        if not len(item):
            return None
        features = self.target.features(item.to(device), visual=self.writer.visual)
        for row, sample in zip(item.rows, split(features), strict=True):
            self.writer.add(row, sample)
        return features

    def capture(
        self, rows: Sequence[int], batch_size: int, num_workers: int = 0,
        done: Callable[[int, int], None] = lambda samples, tokens: None, stop: Callable[[], bool] = lambda: False,
    ) -> bool:  # fmt: skip
        """Captures data rows, except those in the store already. `done(samples, tokens)` is told of every batch; when `stop`
        says so, what has been captured is written and the rest is not: then False."""
        rows = [row for row in rows if row not in self.writer.known]
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        loader = DataLoader(
            self.dataset, batch_sampler=batches, collate_fn=self.collate, num_workers=num_workers,
            worker_init_fn=ignore_interrupts,
        )  # fmt: skip
        for batch in loader:
            self.features(batch, self.target.device)
            done(len(batch.rows) + len(batch.skipped_rows), int(batch.attention_mask.sum()))
            if stop():
                break
        self.writer.flush()
        return not stop()

    def successor(self) -> "StoredSource":
        """Captures the rows that the first epoch left out (an epoch ends on a full step), then reads them all."""
        self.writer.flush()
        self.accelerator.wait_for_everyone()
        missing = FeatureStore(self.folder).missing[self.accelerator.process_index :: self.accelerator.num_processes]
        self.capture(missing, batch_size=1)
        self.accelerator.wait_for_everyone()
        return StoredSource(FeatureStore(self.folder))

    def flush(self) -> None:
        """Writes a shard of what was captured since the last one."""
        self.writer.flush()


class StoredSource:
    """Nothing runs: features are read."""

    epochs: int | None = None

    def __init__(self, store: FeatureStore):
        self.dataset = store

    def collate(self, rows: Sequence[StoredSample | BadRow]) -> TargetFeatures:
        """Samples to a padded batch."""
        skipped = Counter(row.reason for row in rows if isinstance(row, BadRow))
        return join([row for row in rows if isinstance(row, StoredSample)], dict(skipped))

    def features(self, item: TargetFeatures, device: torch.device) -> TargetFeatures | None:
        """As they are."""
        return item.to(device) if len(item) else None

    def successor(self) -> "StoredSource":
        """Itself."""
        return self

    def flush(self) -> None:
        """Everything is on disk."""
