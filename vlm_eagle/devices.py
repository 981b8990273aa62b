"""The device that everything runs on, unless the user names another."""

import os

import torch


def default_device() -> torch.device:
    """This machine's GPU of whatever make, else its CPU.

    Apple's GPU is taken only when accelerate's variable ACCELERATE_TORCH_DEVICE says mps: nothing here was ever run on one. The
    variable works for every other device as well (https://huggingface.co/docs/accelerate).
    """
    if asked := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return torch.device(asked)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None or found.type == "mps" else found


def wait_for(device: torch.device) -> None:
    """Returns when the device has done what it was asked, as a clock requires."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def has_float64(device: torch.device) -> bool:
    """Whether float64 tensors can live there."""
    return device.type != "mps"
