"""The device that everything runs on, unless the user names another."""

import logging
import os
import time
from functools import cache

import torch

from vlm_eagle.errors import UserError

logger = logging.getLogger(__name__)


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


def product_dtype(device: torch.device) -> torch.dtype:
    """The precision for matrix products that need no more than 8 bits of mantissa: bfloat16 on GPUs that have it in hardware.

    On a CPU it is float32, even where the processor has bfloat16: most have not, and take some 100 times as long for it; and
    the same run then gives the same numbers on every CPU.
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def model_dtype(name: str, device: torch.device | str) -> str:
    """What `auto` means on a device: float32 on a CPU, and auto, the checkpoint's own, elsewhere. Other names stay."""
    if device == "balanced" or torch.device(device).type != "cpu":
        return name
    warn_if_slow(name)
    return "float32" if name == "auto" else name


def warn_if_slow(dtype: str) -> None:
    """Tells the log when this CPU has no instructions for a precision."""
    if dtype in ("bfloat16", "float16") and is_slow(getattr(torch, dtype)):
        logger.warning("This CPU is many times slower in %s than in float32. Leave that option out.", dtype)


@cache
def is_slow(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of `dtype` at a quarter of the speed of float32 or less. Measured, in milliseconds:
    which instructions a processor has is not said the same way on every make."""

    def seconds(kind: torch.dtype) -> float:
        square, times = torch.ones(192, 192, dtype=kind), []
        for _ in range(4):
            start = time.perf_counter()
            square @ square
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(dtype) > 4 * seconds(torch.float32)


def autocast_dtype(weight: torch.Tensor) -> torch.dtype:
    """What matrix products with `weight` run in, for what is to be cast once and not by autocast in every product."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def has_float64(device: torch.device) -> bool:
    """Whether float64 tensors can live there."""
    return device.type != "mps"
