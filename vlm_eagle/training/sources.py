"""Where the features of data rows come from. A source gives a DataLoader its dataset and collate function, and turns what
the loader yields (a `Batch` or `TargetFeatures`) into features; the trainer need not know more."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch
from torch.utils.data import Dataset

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.feature_capture import FeatureCapturer, NumberedBatch
from vlm_eagle.training.feature_format import StoredSample, join
from vlm_eagle.training.feature_store import FeatureStore


class Source(Protocol):
    """See the module's text. An item is None, or empty, when none of its rows can be used."""

    dataset: Dataset

    def collate(self, rows: Sequence) -> Batch | TargetFeatures | None:
        """Data rows to one item."""

    def features(self, item: Batch | TargetFeatures) -> TargetFeatures:
        """The features of an item that is not empty, on the device that the item is on."""
        ...

    def idle(self) -> None:
        """In place of `features`, while other processes have an item and this one has none."""

    def flush(self) -> None:
        """Puts on disk what has to be there, if anything."""


class OnlineSource:
    """The target runs over every batch; `together` when its layers are shared with other processes."""

    def __init__(
        self, target: Target, dataset: ConversationDataset, collator: VisionCollator, *,
        visual: bool = False, together: bool = False,
    ):  # fmt: skip
        self.target, self.dataset, self.collator, self.visual, self.together = target, dataset, collator, visual, together

    def collate(self, rows: Sequence[Conversation | BadRow]) -> Batch | None:
        """Conversations to a batch."""
        return self.collator(rows)

    def features(self, item: Batch) -> TargetFeatures:
        """One target forward."""
        return self.target.features(item, visual=self.visual).to(self.target.device)

    def idle(self) -> None:
        """A forward over a single token: the others wait in every layer for this process's part of it."""
        if self.together:
            one = torch.ones(1, 1, dtype=torch.long, device=self.target.device)
            self.target.features(Batch(input_ids=one, attention_mask=one, loss_mask=one == 0))

    def flush(self) -> None:
        """Nothing is kept."""


class FillingSource:
    """The target runs over every batch, and what it says is kept."""

    def __init__(self, filler: FeatureCapturer):
        self.filler, self.dataset = filler, filler.rows

    def collate(self, rows: Sequence) -> NumberedBatch:
        """Encoded rows to a batch."""
        batch = self.dataset.collate(rows)
        if not len(batch):
            self.filler.note_skipped(batch)
        return batch

    def features(self, item: NumberedBatch) -> TargetFeatures:
        """One target forward, whose result goes to the store as well."""
        return self.filler.features(item)

    def idle(self) -> None:
        """No other process waits."""

    def flush(self) -> None:
        """Writes a shard of what was captured since the last one."""
        self.filler.writer.flush()


class StoredSource:
    """Nothing runs: features are read."""

    def __init__(self, store: FeatureStore):
        self.dataset = store

    def collate(self, rows: Sequence[StoredSample | BadRow]) -> TargetFeatures:
        """Samples to a padded batch."""
        skipped = Counter(row.reason for row in rows if isinstance(row, BadRow))
        return join([row for row in rows if isinstance(row, StoredSample)], dict(skipped))

    def features(self, item: TargetFeatures) -> TargetFeatures:
        """As they are."""
        return item

    def idle(self) -> None:
        """No other process waits."""

    def flush(self) -> None:
        """Everything is on disk."""
