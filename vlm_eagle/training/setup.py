"""From a configuration to the parts of a run: target, sources of features, draft vocabulary, draft."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from vlm_eagle.config import TrainConfig
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.data.media import pixel_budget, set_pixel_budget
from vlm_eagle.data.preparation import Preparation, nothing_to_learn
from vlm_eagle.data.prepared_cache import PreparedCache
from vlm_eagle.devices import model_dtype
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab, coverage, read_vocabulary
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import sha256
from vlm_eagle.target.load import TargetEmbeddings, load_embeddings, load_target
from vlm_eagle.target.target import Target
from vlm_eagle.training import sharding
from vlm_eagle.training.feature_format import stored_dtype
from vlm_eagle.training.feature_store import FeatureStore, FeatureWriter, create
from vlm_eagle.training.sources import CapturingSource, EncodedRows, OnlineSource, Source, StoredSource


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """Everything a `Trainer` needs besides its configuration.

    Attributes:
        target: the frozen target, or only its tables when features come from a store.
        draft: the head to train.
        train: where features come from.
        eval: likewise, for evaluation.
        data_hash: identifies the training files.
        dropped: counts rows that were left out before training began.
        lengths: tokens of every training row.
        coverage: share of answer tokens that the draft vocabulary holds.
        max_length: tokens that rows were cut to.
        too_long: rows left out because they are longer and cannot be cut.
        pixel_budget: min_pixels and max_pixels that images were scaled into; None for a target without images.
    """

    target: Target | TargetEmbeddings
    draft: Eagle3Draft
    train: Source
    eval: Source | None
    data_hash: str
    dropped: Counter[str]
    lengths: list[int]
    coverage: float
    max_length: int
    too_long: int
    pixel_budget: tuple[int, int] | None

    def summary(self, steps: int, all_steps: int, epochs: float) -> str:
        """The settings that decide how good the draft becomes: `steps` of the `all_steps` that `epochs` would take."""
        cut = sum(length == self.max_length for length in self.lengths)  # one that has this very length counts along
        some = "" if steps == all_steps else f" of {all_steps:,}, by max_steps,"
        scored = "" if self.eval else " No --data.eval: nothing will score the draft."
        return (
            f"Draft vocabulary {self.draft.config.draft_vocab_size:,} covers {self.coverage:.1%} of answer tokens; "
            f"max_length {self.max_length:,} cut {cut:,} and dropped {self.too_long:,} of {len(self.lengths):,} rows; "
            f"{steps:,} {'step' if steps == 1 else 'steps'}{some} in {epochs:g} epochs; "
            f"target in {str(self.target.embed_tokens.weight.dtype).removeprefix('torch.')}.{scored}"
        )


def build_setup(config: TrainConfig, accelerator: Accelerator) -> TrainingSetup:
    """Loads and builds all parts. Data files must exist (the word `demo` was resolved by the caller).

    Raises:
        UserError: for anything the user can fix.
    """
    if config.data.features and not config.data.capture_during_training:
        return _stored(config, accelerator, Path(config.data.features))
    data = OnlineData(config, accelerator)
    draft, covered = _draft(config, data.target, data.counts, accelerator)
    capture = config.data.capture_during_training
    return TrainingSetup(
        target=data.target, draft=draft, train=data.capturing_source("train") if capture else data.source(data.train),
        eval=data.source(data.eval) if data.eval else None, data_hash=data.data_hash, dropped=data.dropped,
        lengths=data.lengths, coverage=covered, max_length=config.data.max_length, too_long=data.too_long,
        pixel_budget=data.pixel_budget,
    )  # fmt: skip


class OnlineData:
    """The target, the conversations, and what they are cut with."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.train = ConversationDataset(config.data.train or [])
        self.eval = ConversationDataset(config.data.eval) if config.data.eval else None
        self.target = _load_target(config, accelerator)
        self.dropped: Counter[str] = Counter()
        if config.llm_only or not self.target.is_vision:
            self.dropped += self.train.drop_media()
            if self.eval:
                self.eval.drop_media()
        set_pixel_budget(self.target.processor, config.data.min_pixels, config.data.max_pixels)
        self.pixel_budget = pixel_budget(self.target.processor)
        self.collator = VisionCollator(
            self.target.processor, max_length=config.data.max_length, llm_only=config.llm_only, strict=config.data.strict
        )
        self.lengths, self.counts, dropped = self._prepare()
        self.too_long = dropped["too long"]
        if not self.counts.any():
            raise nothing_to_learn(dropped)
        self.data_hash = sha256(map(Path, config.data.train or []))

    def source(self, dataset: ConversationDataset) -> OnlineSource:
        """The target over these conversations."""
        visual = self.config.draft.image_inputs != "token"
        is_shared = self.config.shard_target and self.accelerator.num_processes > 1
        return OnlineSource(self.target, dataset, self.collator, visual=visual, is_shared=is_shared)

    def capturing_source(self, part: Literal["train", "eval"]) -> CapturingSource:
        """Captures a part of the data into `config.data.features`: a new store, or one of exactly this target and data that is
        not complete yet."""
        config, target = self.config.data, self.target
        dataset, files = (self.train, config.train) if part == "train" else (self.eval, config.eval)
        assert config.features is not None
        assert dataset is not None
        assert files is not None
        folder, visual = Path(config.features) / part, self.config.draft.image_inputs != "token"
        dtype = stored_dtype(config.features_dtype, target.embed_tokens.weight.dtype)
        template: Any = target.processor
        manifest = {
            "format": 1, "target": self.config.target, "target_hash": target.fingerprint, "layer_ids": list(target.layer_ids),
            "dtype": str(dtype).removeprefix("torch."), "visual": visual, "max_length": config.max_length,
            "llm_only": self.config.llm_only, "data_hash": sha256(map(Path, files)), "rows": len(dataset),
            "template_hash": hashlib.sha256(str(template.chat_template).encode()).hexdigest(),
            "pixel_budget": list(self.pixel_budget) if self.pixel_budget else None,
        }  # fmt: skip
        with self.accelerator.main_process_first():
            if self.accelerator.is_main_process:
                create(folder, manifest, self.counts)
            writer = FeatureWriter(folder, self.accelerator.process_index, dtype, visual)
        rows = EncodedRows(dataset, self.collator)
        return CapturingSource(target, rows, writer, folder, self.accelerator)

    def _prepare(self) -> tuple[list[int], Tensor, Counter[str]]:
        """Lengths, token counts and dropped rows of the training data, by all processes together where there are several."""
        config, accelerator = self.config.data, self.accelerator
        console = Console(stderr=True, quiet=not accelerator.is_main_process)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("Preparing data", total=len(self.train))
            preparation = Preparation(
                self.train, self.collator, cache=PreparedCache(config.cache, self.collator), workers=config.num_workers,
                done=lambda rows: progress.advance(task, rows),
            )  # fmt: skip
            if accelerator.num_processes > 1:
                preparation.share(accelerator.process_index, accelerator.num_processes)
            prepared = preparation.summary(self.target.config.vocab_size)
        return prepared.lengths, prepared.counts, prepared.dropped


def _load_target(config: TrainConfig, accelerator: Accelerator) -> Target:
    """The whole target on this process's device, or as `shard_target` asks."""
    alone = accelerator.num_processes == 1
    if config.shard_target and not alone and config.data.features:
        raise UserError(
            "Features are captured by each process at its own pace, so that shard_target cannot share the target's layers "
            "among them. Start one process: its layers are then laid over all GPUs."
        )
    device = accelerator.device if not config.shard_target else "balanced" if alone else "cpu"
    dtype = model_dtype(config.target_dtype, accelerator.device)
    target = load_target(config.target, dtype=dtype, device=device, llm_only=config.llm_only, layer_ids=config.draft.layer_ids)
    if config.shard_target and not alone:
        sharding.shard_target(target, accelerator)
    return target


def _stored(config: TrainConfig, accelerator: Accelerator, folder: Path) -> TrainingSetup:
    store = FeatureStore(folder / "train")
    if store.missing:
        raise UserError(
            f"{folder / 'train'} lacks {len(store.missing)} of {len(store)} data rows. Run vlm-eagle capture again."
        )
    held_out = FeatureStore(folder / "eval") if (folder / "eval" / "manifest.json").is_file() else None
    dtype = model_dtype(config.target_dtype, accelerator.device)
    tables = load_embeddings(config.target, dtype=dtype, device=accelerator.device, layer_ids=store.manifest["layer_ids"])
    for one in filter(None, (store, held_out)):
        _check(config, one, tables)
    draft, covered = _draft(config, tables, store.counts, accelerator)
    low_high = store.manifest["pixel_budget"]
    return TrainingSetup(
        target=tables, draft=draft, train=StoredSource(store),
        eval=StoredSource(held_out) if held_out and config.data.eval != [] else None, data_hash=store.manifest["data_hash"],
        dropped=Counter(), lengths=store.lengths, coverage=covered, max_length=store.manifest["max_length"],
        too_long=store.skipped.get("too long", 0), pixel_budget=(low_high[0], low_high[1]) if low_high else None,
    )  # fmt: skip


def _check(config: TrainConfig, store: FeatureStore, tables: TargetEmbeddings) -> None:
    manifest = store.manifest
    if manifest["target_hash"] != tables.fingerprint:
        raise UserError(
            f"{store.folder} was captured from {manifest['target']}, whose weights are not those of {config.target}."
        )
    if config.draft.layer_ids and list(config.draft.layer_ids) != manifest["layer_ids"]:
        raise UserError(f"{store.folder} holds layers {manifest['layer_ids']}, asked for {config.draft.layer_ids}.")
    asked, budget = (config.data.min_pixels, config.data.max_pixels), manifest["pixel_budget"] or [None, None]
    if any(one is not None and one != held for one, held in zip(asked, budget, strict=True)):
        raise UserError(
            f"{store.folder} was captured with images of {budget[0]} to {budget[1]} pixels, asked for {asked[0]} to "
            f"{asked[1]}. Leave data.min_pixels and data.max_pixels out, or capture again."
        )
    if config.draft.image_inputs != "token" and not manifest["visual"]:
        raise UserError(
            f"{store.folder} holds no visual embeddings, which draft.image_inputs {config.draft.image_inputs} needs. "
            "Capture again with that setting."
        )


def _draft(
    config: TrainConfig, target: Target | TargetEmbeddings, counts: Tensor, accelerator: Accelerator
) -> tuple[Eagle3Draft, float]:
    """A fresh draft and its vocabulary's coverage."""
    if config.draft.vocab_file:
        vocab = read_vocabulary(Path(config.draft.vocab_file), len(counts))
    else:
        vocab = DraftVocab.from_counts(counts, min(config.draft.vocab_size, len(counts)))
    sizes = Eagle3Config.for_target(target.config, target.layer_ids, len(vocab.d2t))
    torch.manual_seed(config.seed)
    options = config.draft
    sizes = replace(sizes, dtype=options.dtype, fc_norm=options.fc_norm, norm_output=options.norm_output)
    draft = Eagle3Draft(sizes, vocab).to(accelerator.device)
    with torch.no_grad():  # the draft speaks the target's language from the first step
        rows = draft.target_ids.to(target.lm_head_weight.device)
        draft.lm_head.weight.copy_(target.lm_head_weight[rows])
    return draft, coverage(counts, vocab)
