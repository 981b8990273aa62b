"""Runs the target over data rows and puts their features into a store: beforehand (`vlm-eagle capture`), or while
the first epoch trains."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.dataset import ConversationDataset, ignore_interrupts
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.feature_format import FLOAT8, StoreDtype, split
from vlm_eagle.training.feature_store import FeatureWriter, create


@dataclass(frozen=True)
class NumberedBatch(Batch):
    """A batch that remembers which data rows it is made of.

    Attributes:
        rows: the usable samples' data rows.
        skipped_rows: (data row, name, reason) of the others.
    """

    rows: tuple[int, ...] = ()
    skipped_rows: tuple[tuple[int, str, str], ...] = ()


class NumberedRows(Dataset):
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

    def collate(self, items: Sequence[tuple[int, str, Any]]) -> NumberedBatch:
        """Stacks what can be used."""
        used = [(row, name, encoded) for row, name, encoded in items if not isinstance(encoded, str)]
        skipped = tuple((row, name, reason) for row, name, reason in items if isinstance(reason, str))
        counts: dict[str, int] = {}
        for _, _, reason in skipped:
            counts[reason] = counts.get(reason, 0) + 1
        batch = self.collator.stack([(name, encoded) for _, name, encoded in used], counts)
        return NumberedBatch(**vars(batch), rows=tuple(row for row, _, _ in used), skipped_rows=skipped)


class FeatureCapturer:
    """Computes features and keeps them."""

    def __init__(self, target: Target, dataset: ConversationDataset, collator: VisionCollator, writer: FeatureWriter):
        self.target, self.writer = target, writer
        self.rows = NumberedRows(dataset, collator)

    def features(self, batch: NumberedBatch) -> TargetFeatures:
        """The features of a batch that is not empty; they are in the store, or on their way, afterwards."""
        self.note_skipped(batch)
        features = self.target.features(batch.to(self.target.device), visual=self.writer.visual)
        for row, sample in zip(batch.rows, split(features), strict=True):
            self.writer.add(row, sample)
        return features

    def note_skipped(self, batch: NumberedBatch) -> None:
        """Writes down which rows of a batch cannot be used, and why."""
        for row, name, reason in batch.skipped_rows:
            self.writer.skip(row, name, reason)

    def fill(
        self, rows: Sequence[int], batch_size: int, workers: int = 0,
        done: Callable[[int, int], None] = lambda samples, tokens: None, stop: Callable[[], bool] = lambda: False,
    ) -> bool:  # fmt: skip
        """Captures data rows, those in the store already excepted. `done(samples, tokens)` is told of every batch; when `stop`
        says so, what is there is written and the rest left: then False."""
        rows = [row for row in rows if row not in self.writer.known]
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        options = {"num_workers": workers, "worker_init_fn": ignore_interrupts}
        loader = DataLoader(self.rows, batch_sampler=batches, collate_fn=self.rows.collate, **options)
        for batch in loader:
            self.features(batch) if len(batch) else self.note_skipped(batch)
            done(len(batch.rows) + len(batch.skipped_rows), int(batch.attention_mask.sum()))
            if stop():
                break
        self.writer.flush()
        return not stop()


def open_writer(
    folder: Path, target: Target, dataset: ConversationDataset, *, dtype: StoreDtype, visual: bool, counts: Tensor,
    data_hash: str, max_length: int, llm_only: bool, name: str, pixel_budget: tuple[int, int] | None, rank: int,
) -> FeatureWriter:  # fmt: skip
    """A writer for a new store, or one of exactly this target and data that is not complete yet. `counts` (V,) are the token
    counts of all answers."""
    stored = target.embed_tokens.weight.dtype if dtype == "auto" else FLOAT8 if dtype == "float8" else getattr(torch, dtype)
    manifest = {
        "format": 1, "target": name, "target_hash": target.fingerprint, "layer_ids": list(target.layer_ids),
        "dtype": str(stored).removeprefix("torch."), "visual": visual, "max_length": max_length, "llm_only": llm_only,
        "template_hash": text_hash(str(target.processor.chat_template)), "data_hash": data_hash, "rows": len(dataset),
        "pixel_budget": list(pixel_budget) if pixel_budget else None,
    }  # fmt: skip
    if rank == 0:
        create(folder, manifest, counts)
    return FeatureWriter(folder, rank, stored, visual)


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
