"""Sharding (FSDP2) over the processes of a run.

Of the draft every process keeps a part of the weights and of the optimizer state, and has all weights during a step. Files
always hold whole tensors, so that a run can go on with or without it. Of the target every process keeps a part of each decoder
layer, and has the whole layer while it runs. Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html.
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vlm_eagle.errors import UserError
from vlm_eagle.target.target import Target


def prepare(accelerator: Accelerator, module: nn.Module, shard: bool) -> nn.Module:
    """`module` for several processes: sharded, or whole in each with averaged gradients (DistributedDataParallel). An
    accelerate config that asks for FSDP is the same wish as `shard`.

    Raises:
        UserError: accelerate was told to use FSDP1, or an engine that brings its own optimizer step.
    """
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(
            f"accelerate's config file asks for {accelerator.distributed_type.value}, which is not supported. Use several GPUs "
            "plainly (MULTI_GPU), with --shard if memory is short."
        )
    by_config = accelerator.distributed_type == DistributedType.FSDP
    if by_config and not accelerator.is_fsdp2:
        raise UserError("accelerate's config file asks for FSDP version 1. Set fsdp_version: 2 in its fsdp_config.")
    if accelerator.num_processes == 1 or not (shard or by_config):
        return accelerator.prepare(module)
    sharded: Any = fully_shard(module, mesh=_mesh(accelerator))  # the module itself, of a class made for it
    return sharded


def shard_target(target: Target, accelerator: Accelerator) -> None:
    """Leaves each process its part of every decoder layer, on its device; all else of the target goes there whole.

    A layer's forward waits for all processes, so every process must run the decoder equally often (`Source.idle`). The target
    should come on the CPU: a device then never holds more than its parts and one whole layer.
    """
    for layer in target.decoder.layers:
        fully_shard(layer, mesh=_mesh(accelerator))
    target.model.to(accelerator.device)


def _mesh(accelerator: Accelerator) -> DeviceMesh:
    return init_device_mesh(accelerator.device.type, (accelerator.num_processes,))


class Gathered:
    """Context manager: all weights of a sharded module are at hand, so that ranks may run it a different number of times."""

    def __init__(self, module: nn.Module):
        self.module = module if isinstance(module, FSDPModule) else None

    def __enter__(self) -> None:
        if self.module:
            self.module.unshard()

    def __exit__(self, *_: object) -> None:
        if self.module:
            self.module.reshard()


def whole(state: Any) -> Any:
    """A state dict with whole tensors in place of shards. Every rank must call it."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(value) for value in state]
    return state.full_tensor() if isinstance(state, DTensor) else state


def load(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict, optimizer_states: list[dict]) -> None:
    """Whole tensors into a model and its optimizers, each rank taking its part."""
    own = model.state_dict()
    model.load_state_dict({name: _like(value, own[name]) if name in own else value for name, value in state.items()})
    for optimizer, saved in zip(optimizers, optimizer_states, strict=True):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        entries = {i: {k: _like(v, parameters[i]) for k, v in entry.items()} for i, entry in saved["state"].items()}
        optimizer.load_state_dict({**saved, "state": entries})


def _like(value: Any, other: Tensor) -> Any:
    if not isinstance(other, DTensor) or not isinstance(value, Tensor) or value.shape != other.shape:
        return value  # a step count, or nothing is sharded
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
