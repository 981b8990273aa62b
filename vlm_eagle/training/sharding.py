"""Sharding (FSDP2): every process keeps a part of the draft's weights and of its optimizer state, and all of them during a
step. Files always hold whole tensors, so that a run can go on with or without it."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vlm_eagle.errors import UserError


def prepare(accelerator: Accelerator, module: nn.Module, shard: bool) -> nn.Module:
    """`module` for several processes: sharded, or whole in each with averaged gradients (DistributedDataParallel).

    Raises:
        UserError: accelerate was told to shard by its own means, which are not used here.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UserError("accelerate's config file asks for FSDP. Use eight_gpus.yaml, and give --shard to train_vlm.py.")
    if not shard or accelerator.num_processes == 1:
        return accelerator.prepare(module)
    return fully_shard(module, mesh=init_device_mesh(accelerator.device.type, (accelerator.num_processes,)))


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
