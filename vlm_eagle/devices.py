"""The device that everything runs on, unless the user names another."""

import os

import torch

from vlm_eagle.errors import UserError


def default_device() -> torch.device:
    """This machine's GPU of whatever make, else its CPU.

    Apple's GPU is taken only when accelerate's variable ACCELERATE_TORCH_DEVICE says mps: nothing here was ever run on one. The
    variable works for every other device as well (https://huggingface.co/docs/accelerate).

    Raises:
        UserError: it names a device that is not here.
    """
    if asked := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return named_device(asked)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None or found.type == "mps" else found


def named_device(name: str) -> torch.device:
    """The device a user names; auto is the default one.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        return default_device()
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        reason = str(error).split("\n")[0]
        raise UserError(f"There is no device {name!r} here ({reason}). Name another, as cpu or cuda:0, or none.") from error


def wait_for(device: torch.device) -> None:
    """Returns when the device has done what it was asked, as a clock requires."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def has_float64(device: torch.device) -> bool:
    """Whether float64 tensors can live there."""
    return device.type != "mps"
