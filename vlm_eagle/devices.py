"""Which device is used, and what it computes well."""

import logging
import os
import time
from functools import cache

import torch

from vlm_eagle.errors import UserError

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """The device in accelerate's variable ACCELERATE_TORCH_DEVICE, else this machine's GPU of any make, else its CPU.

    Apple's GPU (mps) is never selected automatically; untested.

    Raises:
        UserError: the variable names a device that does not exist.
    """
    if asked := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return named_device(asked)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None or found.type == "mps" else found


def named_device(name: str) -> torch.device:
    """The device of this name; auto is the default one.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return default_device()
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter if torch was built without it
        reason = str(error).split("\n")[0]
        raise UserError(f"There is no device {name!r} here ({reason}). Name another one, such as cpu or cuda:0.") from error


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished its work, so that a clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def product_dtype(device: torch.device) -> torch.dtype:
    """The precision for matrix products that need no more than 8 bits of mantissa: bfloat16 on GPUs that have it in hardware.

    It is float32 on every CPU, so that a run gives the same numbers on all of them. Most CPUs emulate bfloat16, some 100 times
    slower.
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def model_dtype(name: str, device: torch.device | str) -> str:
    """The dtype to load with: `auto` becomes float32 on a CPU and stays auto, the checkpoint's own, elsewhere."""
    if device == "balanced" or torch.device(device).type != "cpu":
        return name
    warn_if_slow(name)
    return "float32" if name == "auto" else name


def warn_if_slow(dtype: str) -> None:
    """Logs a warning if this CPU has no instructions for a precision."""
    if dtype in ("bfloat16", "float16") and is_slow(getattr(torch, dtype)):
        logger.warning("This CPU is many times slower in %s than in float32. Leave that option out.", dtype)


@cache
def is_slow(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of `dtype` at less than a quarter of the speed of float32. This is measured, in
    milliseconds, because processors name their instructions in different ways."""

    def seconds(kind: torch.dtype) -> float:
        square, times = torch.ones(192, 192, dtype=kind), []
        for _ in range(4):
            start = time.perf_counter()
            torch.matmul(square, square)
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(dtype) > 4 * seconds(torch.float32)


def autocast_dtype(weight: torch.Tensor) -> torch.dtype:
    """The dtype of matrix products with `weight`, for tensors that are cast once instead of by autocast in every product."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def has_float64(device: torch.device) -> bool:
    """Whether the device has float64 tensors."""
    return device.type != "mps"
