"""What a training step holds and computes, found by running the real step on fake tensors.

Fake tensors have shapes and dtypes but no memory. Both models are built from the target's config.json; then `Target.features`,
`ttt_loss`, its backward pass and the optimizers run, while every storage that is made and freed is counted, and every
floating-point operation. Not seen are the scratch memory of single kernels and the padding of the
allocator; `OVERHEAD` stands for those.
"""

import math
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop
from transformers import PretrainedConfig

from vlm_eagle.config import TrainCommand
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.target import Target
from vlm_eagle.training.chunks import CPU, GPU, using_chunk_sizes
from vlm_eagle.training.feature_format import packed_tensors, split, stored_dtype
from vlm_eagle.training.meta_models import meta_draft, meta_target
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.ttt import ttt_loss

GIB = 2**30
OVERHEAD = int(0.6 * GIB)  # CUDA context, libraries, kernels' scratch memory, what the allocator cannot use
_aten = torch.ops.aten
_FORMULAS: dict[Any, Callable[..., int]] = {  # of torch, which does not know attention on a CPU
    **flop_registry, _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop(q, k, v),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A run to be measured.

    Attributes:
        command: its settings.
        draft: its draft.
        autocast: whether the draft computes in bfloat16 beside its float32 master weights.
        processes: devices that train together.
        device: what to measure it for.
    """

    command: TrainCommand
    draft: Eagle3Config
    autocast: bool
    processes: int
    device: Literal["cuda", "cpu"]

    @property
    def batch_size(self) -> int:
        """Conversations in a micro-batch."""
        command = self.command
        return max(command.max_tokens // command.data.max_length, 1) if command.max_tokens else command.batch_size

    @property
    def is_offline(self) -> bool:
        """Whether features come from a store that exists already."""
        return self.command.data.features is not None and not self.command.data.capture_during_training


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of one device in bytes, and operations of one optimizer step on it.

    Attributes:
        held: what is held throughout, by what it is.
        phases: what each phase of a step adds at its worst moment, by what it is; only the largest phase counts.
        flops: floating-point operations by part; a multiplication with an addition is two.
        stored: bytes of captured features on disk, per token.
    """

    held: dict[str, int]
    phases: dict[str, dict[str, int]]
    flops: dict[str, int]
    stored: float

    @property
    def largest(self) -> str:
        """The phase that decides."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return sum(self.held.values()) + sum(self.phases[self.largest].values())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that are made inside and still live, and floating-point operations.

    Attributes:
        now: bytes at this moment.
        peak: bytes at the worst one.
        flops: operations so far, by the formulas of torch's `FlopCounterMode`, whose hooks would keep tensors alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.flops = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        self._known.update(_storages((args, kwargs)))
        if func in (_aten.index.Tensor, _aten.index_put_.default):  # the mask's values are known, and decide the shape
            args = (args[0], [part for index in args[1] for part in _without_mask(index)], *args[2:])
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.now)
        if formula := _FORMULAS.get(getattr(func, "overloadpacket", func)):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out

    def _free(self, size: int) -> None:
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _without_mask(index: Tensor | None) -> tuple[Tensor | None, ...]:
    if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
        return (index,)
    return index.nonzero().unbind(1)


@dataclass(frozen=True)
class MicroBatch:
    """Conversations of equal length, each with one image at its beginning, in tokens."""

    size: int
    tokens: int
    image: int


@dataclass(frozen=True)
class _TargetPass:
    """A forward of the target with everything supervised: pixels, what it gave, bytes at its worst moment, operations."""

    pixels: Tensor | None
    features: TargetFeatures
    peak: int
    flops: int
    vision_flops: int


class FootprintMeter:
    """Measures runs on one target. What several runs share is measured once."""

    def __init__(self, config: PretrainedConfig, layer_ids: tuple[int, ...]):
        self.config, self.layer_ids = config, layer_ids
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.draft_passes: dict[Any, tuple[int, int, int]] = {}
        self.optimizer_passes: dict[Any, tuple[int, int, int]] = {}
        self.target = lru_cache(maxsize=4)(self._target)
        self.target_pass = lru_cache(maxsize=8)(self._target_pass)

    def measure(self, scenario: Scenario) -> Footprint:
        """Memory and operations of a run."""
        with using_chunk_sizes(GPU if scenario.device == "cuda" else CPU):
            return _Measurement(self, scenario).footprint()

    def build(self, config: Eagle3Config) -> Eagle3Draft:
        """A draft of fake tensors."""
        draft = meta_draft(config)
        with self.fake:
            return draft.to_empty(device="cpu")

    def _target(self, dtype: torch.dtype, llm_only: bool) -> Target:
        model = meta_target(self.config, dtype)
        if llm_only and hasattr(model.model, "visual"):
            model.model.visual = None
        with self.fake:
            model.to_empty(device="cpu")
        model.tie_weights()
        return Target(model, layer_ids=self.layer_ids).freeze()

    def _target_pass(self, target: Target, shape: MicroBatch, visual: bool) -> _TargetPass:
        is_mixture = getattr(target.config, "num_experts", None) is not None
        if is_mixture and target.embed_tokens.weight.dtype == torch.float32:  # experts on fake tensors must have 16 bits
            half = self.target_pass(
                self.target(torch.bfloat16, getattr(target.model.model, "visual", 0) is None), shape, visual
            )
            return replace(half, peak=2 * half.peak, features=_in_float32(half.features))
        batch = self._batch(shape)
        with LiveBytes() as live:
            features = target.features(batch, visual=visual)
        pixels = batch.vision_inputs.get("pixel_values")
        with LiveBytes() as tower:
            if pixels is not None:
                target.model.model.visual(pixels.to(target.embed_tokens.weight.dtype), batch.vision_inputs["image_grid_thw"])
        return _TargetPass(pixels, features, live.peak, live.flops - tower.flops, tower.flops)

    def _batch(self, shape: MicroBatch) -> Batch:
        """Token ids and masks are real, because code on the host reads them."""
        ids = torch.zeros(shape.size, shape.tokens, dtype=torch.long)
        attention_mask = torch.ones_like(ids)
        attention_mask[1:, -1] = 0  # conversations that differ in length, so that the target needs a mask
        batch = Batch(ids, attention_mask, loss_mask=torch.ones_like(ids, dtype=torch.bool), ids=("",) * shape.size)
        if not shape.image:
            return batch
        vision: Any = self.config.vision_config
        ids[:, 1 : 1 + shape.image] = self.config.image_token_id
        side = vision.spatial_merge_size
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        with self.fake:
            pixels = torch.empty(shape.size * shape.image * side**2, patch)
        grid = torch.tensor([[1, side, side * shape.image]] * shape.size)
        kinds = (ids == self.config.image_token_id).long()
        return replace(batch, vision_inputs={"pixel_values": pixels, "image_grid_thw": grid, "mm_token_type_ids": kinds})


class _Measurement:
    """One run's footprint, part by part."""

    def __init__(self, meter: FootprintMeter, scenario: Scenario):
        self.meter, self.scenario, self.command = meter, scenario, scenario.command
        self.visual = self.command.draft.image_inputs != "token"
        self.target = meter.target(target_dtype(scenario, meter.config), self.command.llm_only)
        tokens, fraction = self.command.data.max_length, self.command.supervised_fraction
        answer = min(math.ceil(round(tokens * fraction, 6)), tokens - 1)
        image = min(math.ceil(round(tokens * self.command.image_fraction, 6)), tokens - 1 - answer)
        has_images = self.target.is_vision and not self.command.llm_only
        shape = MicroBatch(scenario.batch_size, tokens, image if has_images else 0)
        self.given = meter.target_pass(self.target, shape, self.visual)
        loss_mask = torch.zeros(shape.size, tokens, dtype=torch.bool)
        loss_mask[:, -1 - answer : -1] = True
        last_hidden = self.given.features.last_hidden[: shape.size * answer]
        self.features = replace(self.given.features, loss_mask=loss_mask, last_hidden=last_hidden)
        self.draft = meter.build(scenario.draft)
        for parameter in self.draft.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def footprint(self) -> Footprint:
        """All of it."""
        state, update, update_flops = self._optimizer_pass()
        draft, draft_flops = self._draft_pass()
        phases = {} if self.scenario.is_offline else {"forward of the target": self._forward()}
        phases["loss and gradient of the draft"] = draft
        phases["update by the optimizer"] = {"largest matrix, orthogonalised": update} if update else {}
        with LiveBytes() as head:
            self.target.logits(self.features.last_hidden)
        runs, online = self.command.gradient_accumulation_steps, not self.scenario.is_offline
        flops = {
            "target, decoder layers": runs * online * self.given.flops,
            "target, vision tower": runs * online * self.given.vision_flops,
            "target, lm_head where supervised": runs * head.flops,
            "draft, forward and backward": runs * (draft_flops - head.flops),
            "optimizer": update_flops,
        }
        return Footprint(held=self._held(state), phases=phases, flops=flops, stored=self._stored())

    def _held(self, state: int) -> dict[str, int]:
        scenario, command = self.scenario, self.command
        alone, weights = scenario.processes == 1, module_bytes(self.draft)
        share = scenario.processes if command.shard else 1
        held = {
            "weights of the target": self._target_weights(),
            "weights of the draft, float32": weights // share,
            "gradients, float32": weights // share,
            "optimizer state": state // share,
        }
        if not alone and not command.shard:
            held["gradients on their way to other devices"] = weights
        others = command.gradient_accumulation_steps - 1
        if scenario.device == "cpu" and others:  # elsewhere they wait in the host's memory
            pixels = 0 if self.given.pixels is None else self.given.pixels.nbytes
            waiting = sum(self._feature_bytes().values()) if command.data.features else pixels
            held["other micro-batches of a step"] = others * waiting
        return held | {"context and libraries": OVERHEAD}

    def _target_weights(self) -> int:
        tables = {self.target.embed_tokens.weight, self.target.lm_head_weight}
        if self.scenario.is_offline:
            return sum(table.nbytes for table in tables)
        layers, shares = module_bytes(self.target.decoder.layers), self._target_shares
        return module_bytes(self.target.model) - layers + layers // shares

    @property
    def _target_shares(self) -> int:
        return self.scenario.processes if self.command.shard_target else 1

    def _feature_bytes(self) -> dict[str, int]:
        found = self.features
        tensors = {
            "aux hidden states": found.aux_hidden, "last hidden states where supervised": found.last_hidden,
            "visual embeddings": found.visual,
        }  # fmt: skip
        return {name: tensor.nbytes for name, tensor in tensors.items() if tensor is not None}

    def _forward(self) -> dict[str, int]:
        parts = {} if self.given.pixels is None else {"pixels": self.given.pixels.nbytes}
        parts["activations of the target, captured states included"] = self.given.peak
        if self._target_shares > 1:
            parts["whole layers of the target, this one and the next"] = 2 * module_bytes(self.target.decoder.layers[0])
        return parts

    def _draft_pass(self) -> tuple[dict[str, int], int]:
        """Bytes and operations while the draft learns from a micro-batch."""
        options = self.command.draft
        key = (self.scenario.draft, self.scenario.autocast, self.scenario.device, options.ttt_length, options.loss,
               options.gradient_checkpointing, self.features.aux_hidden.dtype, self.features.last_hidden.shape,
               self.features.input_ids.shape, self.visual)  # fmt: skip
        if key not in self.meter.draft_passes:
            with LiveBytes() as live:
                kept = self._draft_step(live)
            self.meter.draft_passes[key] = (kept, live.peak - kept, live.flops)
        kept, besides, flops = self.meter.draft_passes[key]
        name = "inputs of the TTT steps" if options.gradient_checkpointing else "activations of the draft, all TTT steps"
        parts = self._feature_bytes() | {f"{name}, gradient of lm_head": kept, "at the worst moment, besides": besides}
        if self.command.shard and self.scenario.processes > 1:
            parts["weights and gradients of the draft, gathered"] = 2 * module_bytes(self.draft)
        return parts, flops

    def _draft_step(self, live: LiveBytes) -> int:
        """Forward and backward; returns the bytes that live between them."""
        options, features = self.command.draft, self.features
        visual_samples = torch.ones(len(features), dtype=torch.bool) if features.visual is not None else None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.scenario.autocast), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # RMSNorm of 16 bits with a float32 weight has no fused kernel
            result = ttt_loss(
                self.draft, features, self.target.embed_tokens, self.target.logits, ttt_length=options.ttt_length,
                decay=options.decay, loss=options.loss, visual_samples=visual_samples,
                gradient_checkpointing=options.gradient_checkpointing,
            )  # fmt: skip
            kept = live.now
            result.loss.backward()
        return kept

    def _optimizer_pass(self) -> tuple[int, int, int]:
        """Bytes of the optimizers' state, bytes at the worst moment of an update besides, and its operations."""
        key = (self.scenario.draft, self.command.optim.optimizer, self.scenario.device)
        if key not in self.meter.optimizer_passes:
            optimizers = build_optimizers(self.draft, optimizer=self.command.optim.optimizer, lr=1e-3, weight_decay=0.0)
            precision = "bfloat16" if self.scenario.device == "cuda" else "float32"
            for group in [group for optimizer in optimizers for group in optimizer.param_groups if "precision" in group]:
                group["precision"] = precision
            _step(optimizers)
            with LiveBytes() as live:
                _step(optimizers)
            self.meter.optimizer_passes[key] = (_state_bytes(optimizers), live.peak, live.flops)
        return self.meter.optimizer_passes[key]

    def _stored(self) -> float:
        """A store's own tensors, of these features."""
        dtype = stored_dtype(self.command.data.features_dtype, self.target.embed_tokens.weight.dtype)
        samples = split(self.features)
        size = sum(t.nbytes for sample in samples for t in packed_tensors(sample, dtype, self.visual).values())
        return size / self.features.input_ids.numel()


def module_bytes(module: nn.Module) -> int:
    """Bytes of all parameters."""
    return sum(parameter.nbytes for parameter in module.parameters())


def target_dtype(scenario: Scenario, config: PretrainedConfig) -> torch.dtype:
    """What the target is loaded in: auto is float32 on a CPU, else the checkpoint's dtype. Qwen3-VL's config.json names that
    where transformers drops it; all of Qwen's are bfloat16."""
    if scenario.command.target_dtype != "auto":
        return getattr(torch, scenario.command.target_dtype)
    if scenario.device == "cpu":
        return torch.float32
    dtype: Any = config.dtype or config.get_text_config().dtype or torch.bfloat16
    return dtype


def _in_float32(features: TargetFeatures) -> TargetFeatures:
    visual = None if features.visual is None else features.visual.float()
    return replace(features, aux_hidden=features.aux_hidden.float(), last_hidden=features.last_hidden.float(), visual=visual)


def _step(optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.step()


def _state_bytes(optimizers: list[torch.optim.Optimizer]) -> int:
    """Without step counters, which are on the host."""
    values = [value for optimizer in optimizers for entry in optimizer.state.values() for value in entry.values()]
    return sum(value.nbytes for value in values if isinstance(value, Tensor) and value.ndim)
