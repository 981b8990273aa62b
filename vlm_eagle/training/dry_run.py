"""`--dry-run`: what a training run would need, and what to change when that is too much, before any weight is loaded."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import PretrainedConfig

from vlm_eagle.config import TrainCommand
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import read_vocabulary
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids
from vlm_eagle.target.load import read_config
from vlm_eagle.training.footprint import GIB, Footprint, FootprintMeter, Scenario, target_dtype
from vlm_eagle.training.launch import check_precision
from vlm_eagle.training.meta_models import meta_draft, meta_target

WORTH = 2**26  # bytes; a change that saves less is not worth a line
SHORT, SMALL = 1024, 16_000  # tokens and draft vocabulary below which halving is no advice
Suggestion = tuple[str, Scenario]  # what to do, and the run then


def dry_run(command: TrainCommand, console: Console, ready: str | None = None) -> int:
    """Prints what the run would need, and what to change when it does not fit. Of the target only config.json is read, of the
    data nothing. `ready` is what there is to say of ready settings.

    Returns:
        0 when it fits into the memory of one device, else 1.

    Raises:
        UserError: no such target, another family, or settings that contradict each other.
    """
    config = read_config(command.target)
    scenario = scenario_of(command, config)
    meter = FootprintMeter(config, scenario.draft.aux_layer_ids)
    footprint = meter.measure(scenario)
    budget, source = memory_budget(command.memory_gib)
    if ready:
        console.print(ready, soft_wrap=True)
    console.print(_assumptions(scenario, config))
    console.print(_settings(scenario, config))
    console.print(_parameter_table(meta_target(config), meta_draft(scenario.draft), config))
    console.print(_memory_table(footprint, budget, source))
    console.print(_flop_table(footprint.flops))
    console.print(f"Captured features would take {footprint.stored * 1e6 / GIB:,.1f} GiB of disk per million tokens.")
    fits = footprint.peak <= budget
    console.print(f"It {'fits' if fits else 'does not fit'}: {footprint.peak / GIB:,.2f} of {budget / GIB:,.2f} GiB.")
    most = most_supervised(meter, scenario, budget, footprint.peak)
    console.print(f"A micro-batch fits if at most {most:.0%} of it is supervised." if most else "No micro-batch fits.")
    if fits:
        return 0
    if advice := advise(meter, scenario, footprint.peak):
        console.print(_advice_table(advice, footprint.peak, budget))
    return 1


def scenario_of(command: TrainCommand, config: PretrainedConfig) -> Scenario:
    """The run that `command` and accelerate's environment describe, for a target with this config.json."""
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    if command.draft.layer_ids is None:
        ids = default_layer_ids(text.num_hidden_layers, len(vision.deepstack_visual_indexes) if vision else 0)
    else:
        ids = check_layer_ids(command.draft.layer_ids, text.num_hidden_layers)
    chosen = command.draft.vocab_file
    vocab_size = len(read_vocabulary(Path(chosen), text.vocab_size).d2t) if chosen else command.draft.vocab_size
    draft = Eagle3Config.for_target(text, ids, vocab_size)
    return Scenario(
        command=replace(command, shard=command.shard or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"),
        draft=replace(draft, fc_norm=command.draft.fc_norm, norm_output=command.draft.norm_output),
        autocast=check_precision(os.environ.get("ACCELERATE_MIXED_PRECISION", "no")) == "bf16",
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        device="cuda" if command.memory_gib is not None or torch.cuda.is_available() else "cpu",
    )


def memory_budget(given_gib: float | None) -> tuple[int, str]:
    """Bytes one process may use, and where the number comes from: what was given, this GPU, or this machine."""
    if given_gib is not None:
        return int(given_gib * GIB), "--memory-gib"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", "0")))
        return gpu.total_memory, gpu.name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), "this machine's memory, there is no GPU"


def most_supervised(meter: FootprintMeter, scenario: Scenario, budget: int, known: int) -> float:
    """The largest share of supervised tokens, in hundredths, with which a micro-batch fits into `budget` bytes; 0 for none.
    `known` is the peak of the scenario itself.

    A run needs what its worst micro-batch needs, which may be all answer. Memory is convex in this share (the largest of
    several linear terms), so what is interpolated between two measurements fits, and a few of them find the end.
    """

    def peak(percent: int) -> int:
        return meter.measure(_with(scenario, supervised_fraction=percent / 100)).peak

    given = (round(100 * scenario.command.supervised_fraction), known)
    low, high = (given, (100, peak(100))) if known <= budget else ((1, peak(1)), given)
    if high[1] <= budget:
        return 1.0
    if low[1] > budget:
        return 0.0
    while high[0] - low[0] > 1:
        share = (budget - low[1]) / (high[1] - low[1])
        percent = min(max(low[0] + int(share * (high[0] - low[0])), low[0] + 1), high[0] - 1)
        measured = (percent, peak(percent))
        if measured[1] <= budget:
            low = measured
        else:
            high = measured
    return low[0] / 100


def advise(meter: FootprintMeter, scenario: Scenario, peak: int) -> list[tuple[str, int]]:
    """(change, bytes at the worst moment with it and all changes before it), those that cost least first; `peak` is without
    any."""
    advice = []
    for change in CHANGES:
        suggestion = change(scenario)
        if suggestion is None:
            continue
        then = meter.measure(suggestion[1]).peak
        if peak - then >= WORTH:
            advice.append((suggestion[0], then))
            scenario, peak = suggestion[1], then
    return advice


def _one_by_one(scenario: Scenario) -> Suggestion | None:
    size, command = scenario.batch_size, scenario.command
    if size == 1:
        return None
    forwards = command.gradient_accumulation_steps * size
    text = f"--batch-size 1 --gradient-accumulation-steps {forwards}: the result stays the same"
    return text, _with(scenario, batch_size=1, max_tokens=None, gradient_accumulation_steps=forwards)


def _gradient_checkpointing(scenario: Scenario) -> Suggestion | None:
    draft = scenario.command.draft
    if draft.gradient_checkpointing:
        return None
    text = "--draft.gradient-checkpointing: a third more time in the draft's part, the same result"
    return text, _with(scenario, draft=replace(draft, gradient_checkpointing=True))


def _target_in_bfloat16(scenario: Scenario) -> Suggestion | None:
    if scenario.command.target_dtype == "bfloat16":
        return None
    return "--target-dtype bfloat16: if the target is served in it", _with(scenario, target_dtype="bfloat16")


def _muon(scenario: Scenario) -> Suggestion | None:
    optim = scenario.command.optim
    text = "--optim.optimizer muon: one buffer per matrix, not two"
    return (text, _with(scenario, optim=replace(optim, optimizer="muon"))) if optim.optimizer != "muon" else None


def _other_precision(scenario: Scenario) -> Suggestion:
    """16 bits halve activations and cost copies of the weights, so either may be smaller."""
    if scenario.autocast:
        text = "accelerate launch --mixed_precision no: no 16-bit copies of weights, slower"
    else:
        text = "accelerate launch --mixed_precision bf16: smaller activations, faster"
    return text, replace(scenario, autocast=not scenario.autocast)


def _shorter(scenario: Scenario) -> Suggestion | None:
    half = scenario.command.data.max_length // 2
    text = f"--data.max-length {half}: longer conversations lose their end"
    return (text, _with(scenario, data=replace(scenario.command.data, max_length=half))) if half >= SHORT else None


def _smaller_vocabulary(scenario: Scenario) -> Suggestion | None:
    half = scenario.draft.draft_vocab_size // 2
    text = f"--draft.vocab-size {half}: rarer tokens cannot be drafted"
    return (text, replace(scenario, draft=replace(scenario.draft, draft_vocab_size=half))) if half >= SMALL else None


def _target_sharded(scenario: Scenario) -> Suggestion | None:
    command = scenario.command
    if scenario.processes == 1 or command.shard_target or command.data.features:
        return None
    text = f"--shard-target (FSDP): {scenario.processes} devices share the target's layers, and wait for each other in each"
    return text, _with(scenario, shard_target=True)


def _capture_first(scenario: Scenario) -> Suggestion | None:
    data = scenario.command.data
    stored = replace(data, features=data.features or "features", capture_during_training=False)
    text = "vlm-eagle capture first: training needs no target layers"
    return None if scenario.is_offline else (text, _with(scenario, data=stored, shard_target=False))


def _sharded(scenario: Scenario) -> Suggestion | None:
    if scenario.processes == 1 or scenario.command.shard:
        return None
    text = f"--shard (FSDP): {scenario.processes} devices share the draft's weights, gradients and optimizer state"
    return text, _with(scenario, shard=True)


def _with(scenario: Scenario, **changes: Any) -> Scenario:
    return replace(scenario, command=replace(scenario.command, **changes))


CHANGES: tuple[Callable[[Scenario], Suggestion | None], ...] = (
    _one_by_one, _gradient_checkpointing, _target_in_bfloat16, _muon, _other_precision, _shorter, _smaller_vocabulary,
    _target_sharded, _capture_first, _sharded,
)  # fmt: skip


def _assumptions(scenario: Scenario, config: PretrainedConfig) -> str:
    command = scenario.command
    precision = "16 bits beside float32 master weights" if scenario.autocast else "float32"
    again = ", TTT steps recomputed for the gradient" if command.draft.gradient_checkpointing else ""
    captured = "the target in the first epoch, then a store" if command.data.features else "the target"
    images = min(command.image_fraction, 1 - command.supervised_fraction)
    has_images = hasattr(config, "vision_config") and not command.llm_only
    return (
        f"Dry run for {command.target}: {scenario.batch_size} x {command.data.max_length:,} tokens per forward, "
        f"{command.gradient_accumulation_steps} forwards per step, {scenario.processes} device(s), draft in "
        f"{precision}{again}. Features from {'a store' if scenario.is_offline else captured}. Assumed of the data: "
        f"{command.supervised_fraction:.0%} of tokens supervised, {images if has_images else 0:.0%} image tokens, every "
        "conversation at full length."
    )


def _settings(scenario: Scenario, config: PretrainedConfig) -> str:
    """What decides how good the draft becomes, as far as it is known without the data."""
    command, dtype = scenario.command, str(target_dtype(scenario, config)).removeprefix("torch.")
    missing = "" if command.data.train or command.data.features else " Training needs --data.train, which is not given."
    return (
        f"Draft vocabulary {scenario.draft.draft_vocab_size:,}, max_length {command.data.max_length:,}, {command.epochs:g} "
        f"epochs, target in {dtype}. What the vocabulary covers, how many rows are cut or dropped, and the steps depend on the "
        f"data, which a dry run does not read (vlm-eagle data-report does).{missing}"
    )


def _parameter_table(target: Any, draft: Eagle3Draft, config: PretrainedConfig) -> Table:
    """Parameters of both models by part; of a mixture of experts also those that one token uses."""
    text, table = config.get_text_config(), _table("Parameters", "", "all", "active per token")
    share = text.num_experts_per_tok / text.num_experts if getattr(text, "num_experts", None) else 1
    sizes, active = Counter[str](), Counter[str]()
    tied = target.lm_head.weight is target.get_input_embeddings().weight
    for name, parameter in target.named_parameters():
        kinds = {"visual.": "vision tower", "embed_tokens": "embedding, also lm_head" if tied else "embedding"}
        kinds |= {"lm_head": "lm_head", "": "decoder layers"}
        part = next(kind for word, kind in kinds.items() if word in name)
        sizes[part] += parameter.numel()
        active[part] += round(parameter.numel() * (share if ".experts." in name else 1))
    table.add_row("target", f"{sizes.total():,}", "", style="bold")
    for part, size in sizes.most_common():
        table.add_row(f"  {part}", f"{size:,}", "" if active[part] == size else f"{active[part]:,}")
    table.add_section()
    parts = Counter[str]()
    for name, parameter in draft.named_parameters():
        kinds = {"norm": "norms", "attn": "attention", "mlp": "mlp", "lm_head": "lm_head", "fc": "fc"}
        parts[next(kind for word, kind in kinds.items() if word in name)] += parameter.numel()
    table.add_row("draft, all trained", f"{parts.total():,}", "", style="bold")
    for part, size in parts.most_common():
        table.add_row(f"  {part}", f"{size:,}", "")
    return table


def _memory_table(footprint: Footprint, budget: int, source: str) -> Table:
    table = _table("Memory per device", "", "GiB")
    for name, parts in {"held throughout": footprint.held, **footprint.phases}.items():
        if parts:
            counts = name in ("held throughout", footprint.largest)
            table.add_section()
            table.add_row(
                name if name == "held throughout" else f"during the {name}",
                _gib(sum(parts.values())),
                style="bold" if counts else "dim",
            )
            for part, size in parts.items():
                table.add_row(f"  {part}", _gib(size), style=None if counts else "dim")
    table.add_section()
    table.add_row(f"most at one time: held + {footprint.largest}", _gib(footprint.peak), style="bold")
    table.add_row(f"budget: {source}", _gib(budget))
    left = budget - footprint.peak
    table.add_row("left over" if left >= 0 else "missing", _gib(abs(left)), style="bold green" if left >= 0 else "bold red")
    return table


def _flop_table(flops: dict[str, int]) -> Table:
    """Beside it the floor: what no trainer can do without, the target's forward (0 when features were captured before)."""
    table = _table("Arithmetic per optimizer step and device", "", "TFLOP", "share")
    step = sum(flops.values())
    floor = flops["target, decoder layers"] + flops["target, vision tower"]
    for name, size in flops.items():
        if size:
            table.add_row(name, f"{size / 1e12:,.2f}", f"{size / step:.1%}")
    table.add_section()
    table.add_row("step", f"{step / 1e12:,.2f}", "", style="bold")
    if floor:
        table.add_row("floor: the target's forward alone", f"{floor / 1e12:,.2f}", "")
        table.add_row("step / floor", f"{step / floor:.2f}", "", style="bold")
    return table


def _advice_table(advice: list[tuple[str, int]], peak: int, budget: int) -> Table:
    """What each change saves and where it leads together with those above it; green where that fits."""
    table = _table("What would help", "", "saves, GiB", "with those above, GiB")
    for text, then in advice:
        table.add_row(text, _gib(peak - then), f"[{'green' if then <= budget else 'red'}]{_gib(then)}[/]")
        peak = then
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f}"
