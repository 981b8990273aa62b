"""From a configuration to the parts of a run: target, sources of features, draft vocabulary, draft."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from vlm_eagle.config import TrainConfig
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.data.media import pixel_budget, set_pixel_budget
from vlm_eagle.data.preparation import Preparation, Prepared, nothing_to_learn
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
from vlm_eagle.training.feature_capture import FeatureCapturer, open_writer
from vlm_eagle.training.feature_store import FeatureStore
from vlm_eagle.training.sources import FillingSource, OnlineSource, Source, StoredSource


@dataclass
class Run:
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
        after_first_epoch: the source from the second epoch on, where that is another one.
    """

    target: Target | TargetEmbeddings
    draft: Eagle3Draft
    train: Source
    eval: Source | None
    data_hash: str
    dropped: Counter
    lengths: list[int]
    coverage: float
    max_length: int
    too_long: int
    pixel_budget: tuple[int, int] | None = None
    after_first_epoch: Callable[[], Source] | None = None


def build_run(config: TrainConfig, accelerator: Accelerator) -> Run:
    """Loads and builds all parts. Data files must exist (the word `demo` was resolved by the caller).

    Raises:
        UserError: for anything the user can fix.
    """
    if config.data.features and not config.data.fill:
        return _offline(config, accelerator)
    data = OnlineData(config, accelerator)
    visual = config.draft.image_inputs != "token"
    draft, coverage = _draft(config, data.target, data.counts, accelerator)
    together = config.shard_target and accelerator.num_processes > 1
    train, held_out = (
        OnlineSource(data.target, rows, data.collator, visual=visual, together=together) if rows else None
        for rows in (data.train, data.eval)
    )
    run = Run(
        data.target, draft, train, held_out, data.data_hash, data.dropped, data.lengths, coverage, config.data.max_length,
        data.too_long, data.pixel_budget,
    )  # fmt: skip
    if config.data.fill:
        folder = Path(config.data.features) / "train"
        filler = data.filler(config, folder, data.train, data.data_hash, visual, accelerator)
        run.train, run.after_first_epoch = FillingSource(filler), lambda: _completed(filler, folder, config, accelerator)
    return run


class OnlineData:
    """The target, the conversations, and what they are cut with."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        self.train = ConversationDataset(config.data.train)
        self.eval = ConversationDataset(config.data.eval) if config.data.eval else None
        self.target = _load_target(config, accelerator)
        self.dropped: Counter = Counter()
        if config.llm_only or not self.target.is_vision:
            self.dropped += self.train.drop_media()
            if self.eval:
                self.eval.drop_media()
        set_pixel_budget(self.target.processor, config.data.min_pixels, config.data.max_pixels)
        self.pixel_budget = pixel_budget(self.target.processor)
        self.collator = VisionCollator(
            self.target.processor, max_length=config.data.max_length, llm_only=config.llm_only, strict=config.data.strict
        )
        prepared = _prepare(self, config, accelerator)
        self.lengths, self.counts, self.too_long = prepared.lengths, prepared.counts, prepared.dropped["too long"]
        if not self.counts.any():
            raise nothing_to_learn(prepared.dropped)
        self.data_hash = sha256(map(Path, config.data.train))

    def filler(
        self, config: TrainConfig, folder: Path, dataset: ConversationDataset, data_hash: str, visual: bool,
        accelerator: Accelerator,
    ) -> FeatureCapturer:  # fmt: skip
        """Captures `dataset` into a store in `folder`, which this begins or goes on with."""
        with accelerator.main_process_first():
            writer = open_writer(
                folder, self.target, dataset, dtype=config.data.features_dtype, visual=visual, counts=self.counts,
                data_hash=data_hash, max_length=config.data.max_length, llm_only=config.llm_only, name=config.target,
                pixel_budget=self.pixel_budget, rank=accelerator.process_index,
            )  # fmt: skip
        return FeatureCapturer(self.target, dataset, self.collator, writer)


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


def _offline(config: TrainConfig, accelerator: Accelerator) -> Run:
    folder = Path(config.data.features)
    store = FeatureStore(folder / "train")
    if store.missing:
        raise UserError(
            f"{folder / 'train'} lacks {len(store.missing)} of {len(store)} data rows. Run vlm-eagle capture again."
        )
    held_out = FeatureStore(folder / "eval") if (folder / "eval" / "manifest.json").is_file() else None
    dtype = model_dtype(config.target_dtype, accelerator.device)
    heads = load_embeddings(config.target, dtype=dtype, device=accelerator.device, layer_ids=store.manifest["layer_ids"])
    for one in filter(None, (store, held_out)):
        _check(config, one, heads)
    draft, coverage = _draft(config, heads, store.counts, accelerator)
    source = StoredSource(held_out) if held_out and config.data.eval != [] else None
    budget = store.manifest.get("pixel_budget")
    return Run(
        heads, draft, StoredSource(store), source, store.manifest["data_hash"], Counter(), store.lengths, coverage,
        store.manifest["max_length"], store.skipped.get("too long", 0), tuple(budget) if budget else None,
    )  # fmt: skip


def _check(config: TrainConfig, store: FeatureStore, heads: TargetEmbeddings) -> None:
    manifest = store.manifest
    if manifest["target_hash"] != heads.fingerprint:
        raise UserError(
            f"{store.folder} was captured from {manifest['target']}, whose weights are not those of {config.target}."
        )
    if config.draft.layer_ids and list(config.draft.layer_ids) != manifest["layer_ids"]:
        raise UserError(f"{store.folder} holds layers {manifest['layer_ids']}, asked for {config.draft.layer_ids}.")
    asked, budget = (config.data.min_pixels, config.data.max_pixels), manifest.get("pixel_budget") or [None, None]
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


def _completed(filler: FeatureCapturer, folder: Path, config: TrainConfig, accelerator: Accelerator) -> Source:
    """After the first epoch: captures the rows that it left out (an epoch ends on a full step), then reads."""
    filler.writer.flush()
    accelerator.wait_for_everyone()
    missing = FeatureStore(folder).missing[accelerator.process_index :: accelerator.num_processes]
    filler.fill(missing, config.batch_size)
    accelerator.wait_for_everyone()
    return StoredSource(FeatureStore(folder))


def _draft(
    config: TrainConfig, target: Target | TargetEmbeddings, counts: Tensor, accelerator: Accelerator
) -> tuple[Eagle3Draft, float]:
    """A fresh draft and its vocabulary's coverage."""
    vocab = _vocabulary(config, counts)
    sizes = Eagle3Config.for_target(target.config, target.layer_ids, len(vocab.d2t))
    torch.manual_seed(config.seed)
    options = {name: getattr(config.draft, name) for name in ("dtype", "fc_norm", "norm_output")}
    draft = Eagle3Draft(replace(sizes, **options), vocab).to(accelerator.device)
    with torch.no_grad():  # the draft speaks the target's language from the first step
        rows = draft.target_ids.to(target.lm_head_weight.device)
        draft.lm_head.weight.copy_(target.lm_head_weight[rows])
    return draft, coverage(counts, vocab)


def _vocabulary(config: TrainConfig, counts: Tensor) -> DraftVocab:
    if config.draft.vocab_file:
        return read_vocabulary(Path(config.draft.vocab_file), len(counts))
    return DraftVocab.from_counts(counts, min(config.draft.vocab_size, len(counts)))


def _prepare(data: OnlineData, config: TrainConfig, accelerator: Accelerator) -> Prepared:
    """Counts of the training rows, by all processes together where there are several."""
    cache = PreparedCache(config.data.cache, data.collator)
    console = Console(stderr=True, quiet=not accelerator.is_main_process)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Preparing data", total=len(data.train))
        preparation = Preparation(
            data.train, data.collator, cache=cache, workers=config.data.workers,
            done=lambda rows: progress.advance(task, rows),
        )  # fmt: skip
        if accelerator.num_processes > 1:
            preparation.share(accelerator.process_index, accelerator.num_processes)
        return preparation.summary(data.target.config.vocab_size)
