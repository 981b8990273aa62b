"""Groups of options that several commands inherit, and what is loaded with them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from data_recipes import demo
from vlm_eagle.config import DEMO, ImageInputs, draft_for
from vlm_eagle.decoding.options import Sampling, SamplingOptions, Settings, TreeOptions
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from vlm_eagle.data.collator import VisionCollator
    from vlm_eagle.data.dataset import ConversationDataset
    from vlm_eagle.data.preparation import Preparation
    from vlm_eagle.decoding.pair import Pair


@dataclass(kw_only=True)
class TargetOptions:
    """The model that answers.

    Attributes:
        target: folder or hub id of the target, or demo.
        dtype: of all models; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto takes a GPU when there is one, or this process's own under accelerate launch; balanced spreads the target
            over all GPUs.
    """

    target: str = DEMO
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"


@dataclass(kw_only=True)
class PairOptions(TargetOptions):
    """A target with its draft.

    Attributes:
        draft: folder or hub id of the draft; auto for the demo's own.
    """

    draft: str = "auto"

    def __post_init__(self) -> None:
        self.draft = draft_for(self.target, self.draft)

    def load(self, llm_only: bool = False) -> "Pair":
        """Both models; the target alone for the draft `none`."""
        from vlm_eagle.decoding.pair import load_pair

        draft = None if self.draft == "none" else self.draft
        return load_pair(self.target, draft, device=self.device, dtype=self.dtype, llm_only=llm_only)


@dataclass(kw_only=True)
class AnswerOptions(SamplingOptions, TreeOptions, PairOptions):
    """How to answer prompts.

    Attributes:
        draft: folder or hub id of the draft; the word none decodes with the target alone; auto for the demo's own.
        max_new_tokens: longest answer.
        seed: of the sampling; none for a new one every time.
    """

    draft: str = "auto"
    max_new_tokens: int = 256
    seed: int | None = None

    @property
    def settings(self) -> Settings:
        """All of it, checked."""
        return Settings(shape=self.shape, sampling=self.sampling, max_new_tokens=self.max_new_tokens, seed=self.seed)


@dataclass(kw_only=True)
class MeasureOptions(SamplingOptions, TreeOptions, TargetOptions):
    """What score and speedup measure.

    Attributes:
        draft: folders or hub ids of drafts to compare; auto for the demo's own.
        trees: instead of draft_tokens, topk and num_steps, trees such as 5,4,16 (num_steps, topk, num_draft_tokens) or chain4.
        samplings: instead of the four sampling options, greedy, qwen3 (0.6, top-p 0.95, top-k 20) or sampled (1), each in turn.
        seed: of the sampling.
        benchmarks: names of benchmarks, name=source, or JSONL files of conversations; none for all demo benchmarks.
        max_new_tokens: longest answer; none for what the benchmark asks for, 160 where it does not say.
        image_inputs: what the draft reads at image tokens: token, as in vLLM, or visual_embeds, as in SGLang.
        thinking: let a hybrid Qwen3 think (the chat template's enable_thinking).
        llm_only: drop the vision tower and use text benchmarks only.
        compare: two files of results; says what changed from the first to the second, and measures nothing.
    """

    draft: list[str] = field(default_factory=lambda: ["auto"])
    trees: list[str] = field(default_factory=list)
    samplings: list[str] = field(default_factory=list)
    seed: int = 0
    benchmarks: list[str] = field(default_factory=list)
    max_new_tokens: int | None = None
    image_inputs: ImageInputs = "token"
    thinking: bool = False
    llm_only: bool = False
    compare: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from vlm_eagle.evaluation.scores.prompts import check_length

        check_length(self.max_new_tokens)
        if len(set(self.draft)) < len(self.draft) or not self.draft:
            raise UserError("Give at least one draft, and each draft once.")
        if self.uses_drafts:
            self.draft = [draft_for(self.target, draft) for draft in self.draft]

    @property
    def uses_drafts(self) -> bool:
        """Whether the drafts are going to be loaded."""
        return not self.compare

    @property
    def all_samplings(self) -> list[Sampling]:
        """The named ones, else the one of the four options."""
        from vlm_eagle.evaluation.scores.option_words import parse_samplings

        return parse_samplings(self.samplings) or [self.sampling]


@dataclass(kw_only=True)
class DataOptions:
    """Data, and how a target reads it.

    Attributes:
        target: folder or hub id of the target, whose processor is used, or demo; no weights are loaded.
        data: JSONL files of conversations, or demo.
        max_length: longest sample in tokens, as in training.
        min_pixels: as data.min_pixels in training.
        max_pixels: as data.max_pixels in training.
        llm_only: as in training.
    """

    target: str = DEMO
    data: list[str] = field(default_factory=lambda: [DEMO])
    max_length: int = 2048
    min_pixels: int | None = None
    max_pixels: int | None = None
    llm_only: bool = False

    def open(self, console: Console) -> "tuple[ConversationDataset, VisionCollator]":
        """The rows, and what encodes them. The demo's data is made if it is not there yet.

        Raises:
            UserError: no such target or data.
        """
        from vlm_eagle.data.collator import VisionCollator
        from vlm_eagle.data.dataset import ConversationDataset
        from vlm_eagle.data.media import set_pixel_budget
        from vlm_eagle.target.load import load_processor

        files = self.data
        if DEMO in files:
            folder = demo.make(console=console)
            files = [str(folder / "train.jsonl") if name == DEMO else name for name in files]
        processor = load_processor(self.target)
        set_pixel_budget(processor, self.min_pixels, self.max_pixels)
        return ConversationDataset(files), VisionCollator(processor, max_length=self.max_length, llm_only=self.llm_only)


@dataclass(kw_only=True)
class PreparationOptions(DataOptions):
    """Data that is read as a whole.

    Attributes:
        workers: processes that tokenise.
        cache: as data.cache in training.
    """

    workers: int = os.cpu_count() or 1
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers may not be negative, found {self.workers}.")

    @contextmanager
    def prepare(self, dataset: "ConversationDataset", collator: "VisionCollator", console: Console) -> "Iterator[Preparation]":
        """The rows, prepared, with a progress bar while they are read."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from vlm_eagle.data.preparation import Preparation
        from vlm_eagle.data.prepared_cache import PreparedCache

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Reading", total=len(dataset))
            advance = lambda rows: bar.advance(task, rows)
            yield Preparation(dataset, collator, cache=PreparedCache(self.cache, collator), workers=self.workers, done=advance)
