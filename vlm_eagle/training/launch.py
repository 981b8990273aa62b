"""The processes of a run."""

import os

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from vlm_eagle.devices import default_device, warn_if_slow
from vlm_eagle.errors import UserError
from vlm_eagle.packages import require


def make_accelerator(tracker: str = "none", folder: str | None = None) -> Accelerator:
    """An accelerator that logs to `tracker` in `folder`. On a CPU its processes share all threads: accelerate launch leaves
    one per process, whatever the machine has.

    Raises:
        UserError: several processes were started that do not know of each other (they would write over each other's files), or
            a precision was asked for that cannot be had, or the tracker is not installed (accelerate would track nothing).
    """
    if tracker not in ("none", *map(str, get_available_trackers())):
        require(tracker, user=f"--tracker {tracker}", extra="report" if tracker == "tensorboard" else None)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = default_device().type == "cpu"  # accelerate must be told, or it sees no other processes
    accelerator = Accelerator(cpu=on_cpu, log_with=None if tracker == "none" else tracker, project_dir=folder)
    check_precision(accelerator.mixed_precision)
    if accelerator.num_processes < started:
        raise UserError(
            f"{started} processes were started, but accelerate sees {accelerator.num_processes}. Check --num_processes and "
            "the distributed_type of accelerate's config file."
        )
    if accelerator.device.type == "cpu":
        if accelerator.mixed_precision == "bf16":
            warn_if_slow("bfloat16")
        torch.set_num_threads(max((os.cpu_count() or 1) // accelerator.num_processes, 1))
    return accelerator


def check_precision(name: str) -> str:
    """`name`, one of accelerate's, if training can have it.

    Raises:
        UserError: fp16, whose small range needs a scaled loss, or fp8, which needs other layers.
    """
    if name not in ("no", "bf16"):
        raise UserError(
            f"A draft cannot be trained with --mixed_precision {name}: gradients would underflow in its small range. Use "
            "bf16, which is as fast, or no. (If you did not give the option, it is set in accelerate's config file.)"
        )
    return name
