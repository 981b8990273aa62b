"""The processes of a run."""

import os

import torch
from accelerate import Accelerator

from vlm_eagle.errors import UserError


def make_accelerator(tracker: str = "none", folder: str | None = None) -> Accelerator:
    """An accelerator that logs to `tracker` in `folder`. On a CPU its processes share all threads: accelerate launch leaves
    one per process, whatever the machine has.

    Raises:
        UserError: several processes were started that do not know of each other; they would write over each other's files.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    without_device = started > 1 and not torch.accelerator.is_available()  # accelerate must be told, or it sees no others
    accelerator = Accelerator(cpu=without_device, log_with=None if tracker == "none" else tracker, project_dir=folder)
    if accelerator.num_processes < started:
        raise UserError(
            f"{started} processes were started, but accelerate sees {accelerator.num_processes}. Check --num_processes and "
            "the distributed_type of accelerate's config file."
        )
    if accelerator.device.type == "cpu":
        torch.set_num_threads(max((os.cpu_count() or 1) // accelerator.num_processes, 1))
    return accelerator
