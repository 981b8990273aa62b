"""`--dry-run`: what a training run would need, said before any weight is loaded or any file written."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from transformers import PretrainedConfig

from vlm_eagle.config import TrainCommand
from vlm_eagle.devices import model_dtype
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.vocab import read_vocabulary
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids
from vlm_eagle.target.load import read_config
from vlm_eagle.training import estimate_table as tables
from vlm_eagle.training.advice import Plan, advise, most_supervised
from vlm_eagle.training.arithmetic import estimate_arithmetic
from vlm_eagle.training.estimate import estimate_memory, store_bytes
from vlm_eagle.training.launch import check_precision
from vlm_eagle.training.sizes import checkpoint_dtype, draft_sizes, target_sizes
from vlm_eagle.training.workload import GIB, Workload

MILLION = 1_000_000


def dry_run(command: TrainCommand, console: Console, ready: str | None = None) -> int:
    """Prints what the run would need, and what to change when it does not fit. Of the target only config.json is read, of the
    data nothing. `ready` is what there is to say of ready settings.

    Returns:
        0 when it fits into the memory of one device, else 1.

    Raises:
        UserError: no such target, another family, or settings that contradict each other.
    """
    config = read_config(command.target)
    plan = make_plan(command, config)
    memory = estimate_memory(plan.target, plan.draft, plan.work)
    budget, source = memory_budget(command.memory_gib)
    if ready:
        console.print(ready, soft_wrap=True)
    console.print(_header(command, plan.work))
    console.print(_settings(command, plan, _target_dtype(command, config, plan.work)))
    console.print(tables.parameter_table(plan.target, plan.draft))
    console.print(tables.memory_table(memory, budget, source))
    console.print(tables.arithmetic_table(estimate_arithmetic(plan.target, plan.draft, plan.work)))
    visual = plan.work.image_fraction if plan.work.visual else 0.0
    disk = store_bytes(plan.target, MILLION, command.supervised_fraction, visual, command.data.features_dtype)
    console.print(f"Captured features would take {disk / GIB:,.1f} GiB of disk per million tokens.")
    fits = memory.peak <= budget
    console.print(f"It {'fits' if fits else 'does not fit'}: {memory.peak / GIB:,.2f} of {budget / GIB:,.2f} GiB.")
    most = most_supervised(plan, budget)
    console.print(f"A micro-batch fits if at most {most:.0%} of it is supervised." if most else "No micro-batch fits.")
    if fits:
        return 0
    if changes := advise(plan):
        console.print(tables.advice_table(changes, plan, budget))
    return 1


def make_plan(command: TrainCommand, config: PretrainedConfig) -> Plan:
    """The run that `command` describes, for a target with this config.json."""
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    if command.draft.layer_ids is None:
        ids = default_layer_ids(text.num_hidden_layers, len(vision.deepstack_visual_indexes) if vision else 0)
    else:
        ids = check_layer_ids(command.draft.layer_ids, text.num_hidden_layers)
    images = min(command.image_fraction, 1 - command.supervised_fraction) if vision and not command.llm_only else 0.0
    stored = command.data.features is not None
    work = Workload(
        batch_size=max(command.max_tokens // command.data.max_length, 1) if command.max_tokens else command.batch_size,
        gradient_accumulation_steps=command.gradient_accumulation_steps,
        max_length=command.data.max_length,
        ttt_length=command.draft.ttt_length,
        supervised_fraction=command.supervised_fraction,
        image_fraction=images,
        optimizer=command.optim.optimizer,
        loss=command.draft.loss,
        autocast=check_precision(os.environ.get("ACCELERATE_MIXED_PRECISION", "no")) == "bf16",
        gradient_checkpointing=command.draft.gradient_checkpointing,
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        sharded=command.shard or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true",
        target_sharded=command.shard_target,
        llm_only=command.llm_only,
        offline=stored and not command.data.fill,
        fill=stored and command.data.fill,
        visual=command.draft.image_inputs != "token",
        device="cuda" if command.memory_gib is not None or torch.cuda.is_available() else "cpu",
    )
    chosen = command.draft.vocab_file
    vocab_size = len(read_vocabulary(Path(chosen), text.vocab_size).d2t) if chosen else command.draft.vocab_size
    head = Eagle3Config.for_target(text, ids, vocab_size)
    head = replace(head, fc_norm=command.draft.fc_norm, norm_output=command.draft.norm_output)
    return Plan(target=target_sizes(config, _target_dtype(command, config, work)), draft=draft_sizes(head), work=work)


def memory_budget(given_gib: float | None) -> tuple[int, str]:
    """Bytes one process may use, and where the number comes from: what was given, this GPU, or this machine."""
    if given_gib is not None:
        return int(given_gib * GIB), "--memory-gib"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", "0")))
        return gpu.total_memory, gpu.name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), "this machine's memory, there is no GPU"


def _target_dtype(command: TrainCommand, config: PretrainedConfig, work: Workload) -> str:
    """What the target is loaded in."""
    dtype = model_dtype(command.target_dtype, work.device)
    return checkpoint_dtype(config) if dtype == "auto" else dtype


def _settings(command: TrainCommand, plan: Plan, dtype: str) -> str:
    """What decides how good the draft becomes, as far as it is known without the data."""
    missing = "" if command.data.train or command.data.features else " Training needs --data.train, which is not given."
    return (
        f"Draft vocabulary {plan.draft.config.draft_vocab_size:,}, max_length {command.data.max_length:,}, "
        f"{command.epochs:g} epochs, target in {dtype}. What the vocabulary covers, how many rows are cut or dropped, and the "
        f"steps depend on the data, which a dry run does not read (vlm-eagle data-report does).{missing}"
    )


def _header(command: TrainCommand, work: Workload) -> str:
    precision = "16 bits beside float32 master weights" if work.autocast else "float32"
    again = ", steps computed again for the gradient" if work.gradient_checkpointing else ""
    source = "a store" if work.offline else "the target in the first epoch, then a store" if work.fill else "the target"
    return (
        f"Dry run for {command.target}: {work.batch_size} x {work.max_length:,} tokens per forward, "
        f"{work.gradient_accumulation_steps} forwards per step, {work.processes} device(s), draft in {precision}{again}. "
        f"Features from {source}. "
        f"Assumed of the data: {work.supervised_fraction:.0%} of tokens supervised, "
        f"{work.image_fraction:.0%} image tokens, every conversation at full length."
    )
