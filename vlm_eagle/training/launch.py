"""The processes of a run."""

import os

import torch
from accelerate import Accelerator


def make_accelerator(tracker: str = "none", folder: str | None = None) -> Accelerator:
    """An accelerator that logs to `tracker` in `folder`. On a CPU its processes share all threads: accelerate launch leaves
    one per process, whatever the machine has."""
    accelerator = Accelerator(log_with=None if tracker == "none" else tracker, project_dir=folder)
    if accelerator.device.type == "cpu":
        torch.set_num_threads(max((os.cpu_count() or 1) // accelerator.num_processes, 1))
    return accelerator
