"""The typed configuration of a training run. Field order is the order of `--help`; every default is a value that works."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from vlm_eagle.errors import UserError

Tracker = Literal[  # those of accelerate
    "none", "tensorboard", "wandb", "swanlab", "mlflow", "trackio", "comet_ml", "aim", "clearml", "dvclive",
]  # fmt: skip
# what a draft reads at image tokens: the pad token's embedding (vLLM), or the projected visual embedding (SGLang)
ImageInputs = Literal["token", "visual_embeds"]
DEMO = "demo"  # as a target: the one in demo/target/; as data: the embedded demo data
DEMO_TARGET = Path(__file__).resolve().parent / "demo" / "target"
_DEMO_DRAFT = "outputs/demo/draft"


def is_demo(target: str) -> bool:
    """Whether this is the demo's target: the word, or its folder. A copy elsewhere is a target like any other."""
    return target == DEMO or Path(target).resolve() == DEMO_TARGET


def resolve_target(name: str) -> str:
    """The folder that the word `demo` stands for; any other folder or hub id is returned unchanged."""
    return str(DEMO_TARGET) if name == DEMO else name


def draft_for(target: str, draft: str) -> str:
    """The draft that a command was given; auto is the demo's own.

    Raises:
        UserError: auto, for another target: the demo's draft would be foreign to it.
    """
    if draft != "auto":
        return draft
    if not is_demo(target):
        raise UserError(
            f"No draft is named, and {_DEMO_DRAFT}, the default, belongs to the demo target and not to {target}. "
            "Give --draft: the draft/ folder of a training run, or a hub id."
        )
    return _DEMO_DRAFT


def default_out(target: str) -> str:
    """The folder of a run when none is named: outputs/demo, or outputs/ with the name of the target's folder or hub id."""
    if is_demo(target):
        return "outputs/demo"
    path = Path(target).resolve()
    return f"outputs/{path.name if path.name != DEMO else f'{path.parent.name}-{DEMO}'}"


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} must be {wanted}, found {value}.")


def _require_positive(**values: float | None) -> None:
    """Names have two underscores in place of a dot; None is an option that is not set."""
    for name, value in values.items():
        _require(value is None or value > 0, name.replace("__", "."), value, "greater than 0")


@dataclass(kw_only=True)
class DataConfig:
    """What to learn from.

    Attributes:
        train: JSONL files of conversations, or the single word `demo` for the embedded demo data, which is the demo target's
            default; other targets have none.
        eval: JSONL files for held-out evaluation; `demo` and the default likewise; empty to skip evaluation.
        max_length: longest sample in tokens, image tokens included. A longer one loses its end; where that would cut into an
            image, or leave no answer, it is skipped.
        min_pixels: upscale images that have fewer pixels than this; none for the processor's own budget.
        max_pixels: downscale images that have more pixels than this, to save tokens; none likewise. Serve the draft
            with the same budget.
        cache: folder of token counts of data rows, kept from run to run; none for the user's cache folder.
        features: folder of a feature store (vlm-eagle capture): train from it, without the target's layers.
        capture_during_training: run the target in the first epoch, store its hidden states in `features`, and read them from
            there in later epochs.
        features_dtype: type of the stored hidden states: auto is the target's own, float8 takes half the space of bfloat16.
        num_workers: processes that load and tokenise.
        strict: stop at the first bad sample instead of skipping and counting it.
    """

    train: list[str] | None = None
    eval: list[str] | None = None
    max_length: int = 2048
    min_pixels: int | None = None
    max_pixels: int | None = None
    cache: str | None = None
    features: str | None = None
    capture_during_training: bool = False
    features_dtype: Literal["auto", "float32", "bfloat16", "float16", "float8"] = "auto"
    num_workers: int = 1
    strict: bool = False

    def __post_init__(self) -> None:
        _require_positive(data__max_length=self.max_length, data__min_pixels=self.min_pixels, data__max_pixels=self.max_pixels)
        _require(self.num_workers >= 0, "data.num_workers", self.num_workers, "0 or more")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise UserError(f"data.min_pixels {self.min_pixels} exceeds data.max_pixels {self.max_pixels}. Swap them.")
        if self.capture_during_training and not self.features:
            raise UserError("data.capture_during_training needs a folder for the features. Give data.features.")
        if self.train == []:
            raise UserError("data.train names no file. Give JSONL files of conversations, or demo.")


@dataclass(kw_only=True)
class DraftConfig:
    """The head and its loss.

    Attributes:
        vocab_size: size of the draft vocabulary, filled with the most frequent answer tokens.
        vocab_file: use a vocabulary chosen with `vlm-eagle vocabulary` instead.
        ttt_length: number of training-time-test steps.
        decay: step k has weight decay ** k in the loss.
        loss: soft cross-entropy, or an LK loss, which aims at the acceptance of drawn tokens (temperature > 0).
        image_inputs: what the draft reads at image tokens: token (the pad token's embedding, as vLLM feeds it),
            visual_embeds (the projected visual embedding, as SGLang feeds it), or mixed (one of the two, at random for each
            sample).
        fc_norm: RMSNorm on each aux hidden state before they are fused (EAGLE-3.1; needs vLLM 0.32 or SGLang 0.5.23).
        norm_output: pass the normed output on to the next step (EAGLE-3.1, likewise).
        gradient_checkpointing: recompute the activations of the TTT steps in the backward pass: less memory and a third more
            time.
        layer_ids: decoder layers whose inputs feed the draft; none for a low, a middle and a high one.
        dtype: of the saved weights; training itself keeps float32 master weights.
    """

    vocab_size: int = 32000
    vocab_file: str | None = None
    ttt_length: int = 7
    decay: float = 0.9
    loss: Literal["soft_cross_entropy", "lk_alpha", "lk_lambda"] = "soft_cross_entropy"
    image_inputs: Literal["token", "visual_embeds", "mixed"] = "token"
    fc_norm: bool = False
    norm_output: bool = False
    gradient_checkpointing: bool = False
    layer_ids: list[int] | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"

    def __post_init__(self) -> None:
        _require_positive(draft__vocab_size=self.vocab_size, draft__ttt_length=self.ttt_length)
        _require(0 < self.decay <= 1, "draft.decay", self.decay, "greater than 0 and at most 1")


@dataclass(kw_only=True)
class OptimConfig:
    """Optimizer settings.

    Attributes:
        optimizer: Muon on matrices with AdamW on the rest, or AdamW alone.
        lr: peak learning rate of both.
        schedule: after warm-up: cosine to a tenth, constant, or constant with a final linear decay (wsd).
        warmup_ratio: share of all steps spent warming up.
        weight_decay: on matrices, never on norms.
        max_grad_norm: largest joint gradient norm.
    """

    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 3e-3
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(optim__lr=self.lr, optim__max_grad_norm=self.max_grad_norm)
        _require(0 <= self.warmup_ratio <= 1, "optim.warmup_ratio", self.warmup_ratio, "from 0 to 1")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "0 or more")


@dataclass(kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        target: folder or hub id of a Qwen3-VL, Qwen3-VL-MoE, Qwen3 or Qwen3-MoE model, or `demo`.
        out: folder of the run: draft/ (what the engines load), checkpoints/, run.json, log.jsonl; none for outputs/ and the
            target's name.
        llm_only: train a vision target on text only; its vision tower never runs.
        data: what to learn from.
        draft: the head and its loss.
        optim: optimizer settings.
        epochs: passes over the data.
        max_steps: stop after this many optimizer steps; none for all epochs.
        batch_size: conversations per forward and process.
        max_tokens: instead of batch_size: batch rows of similar length, up to this many tokens including padding.
        gradient_accumulation_steps: forwards per optimizer step; batch 1 x 8 gives the same as batch 8 x 1.
        target_dtype: of the frozen target; auto is float32 on a CPU and the checkpoint's elsewhere.
        eval_steps: optimizer steps between held-out evaluations.
        save_steps: optimizer steps between checkpoints.
        save_total_limit: number of checkpoints that stay on disk.
        resume: continue from the last checkpoint in `out`, if there is one.
        shard: with several processes, each keeps a part of the draft's weights and optimizer state (FSDP2): less memory, same
            results.
        shard_target: for a target that does not fit on one device: with several processes, each keeps a part of every decoder
            layer and fetches the rest when the layer runs (FSDP2); with one process, its layers are spread over all GPUs.
        tracker: experiment tracker, through accelerate.
        seed: of initial weights and data order.
    """

    target: str = DEMO
    out: str | None = None
    llm_only: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    draft: DraftConfig = field(default_factory=DraftConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 8
    max_tokens: int | None = None
    gradient_accumulation_steps: int = 1
    target_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    eval_steps: int = 500
    save_steps: int = 500
    save_total_limit: int = 2
    resume: bool = True
    shard: bool = False
    shard_target: bool = False
    tracker: Tracker = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(
            epochs=self.epochs, max_steps=self.max_steps, batch_size=self.batch_size, max_tokens=self.max_tokens,
            gradient_accumulation_steps=self.gradient_accumulation_steps, eval_steps=self.eval_steps,
            save_steps=self.save_steps, save_total_limit=self.save_total_limit,
        )  # fmt: skip
        self.out = self.out or default_out(self.target)
        if is_demo(self.target):
            self.data.train = self.data.train or [DEMO]
            self.data.eval = [DEMO] if self.data.eval is None else self.data.eval


@dataclass(kw_only=True)
class TrainCommand(TrainConfig):
    """A training run, and whether to run it at all.

    Attributes:
        dry_run: print what the run would need (memory, arithmetic, disk), and stop; the exit code is 1 if it would not fit.
        memory_gib: dry run: memory of a device; none for this machine's GPU, or its main memory.
        supervised_fraction: dry run: share of tokens in answers.
        image_fraction: dry run: share of image tokens, for a vision target; at most the share outside answers.
    """

    dry_run: bool = False
    memory_gib: float | None = None
    supervised_fraction: float = 0.15
    image_fraction: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(memory_gib=self.memory_gib)
        if not 0 < self.supervised_fraction <= 1 or not 0 <= self.image_fraction <= 1:
            raise UserError(
                f"supervised_fraction is {self.supervised_fraction} and image_fraction {self.image_fraction}. They are shares "
                "of tokens: give numbers from 0 to 1, the first greater than 0."
            )

    def train_config(self) -> TrainConfig:
        """The training run alone, which is what checkpoints and run.json record."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})
