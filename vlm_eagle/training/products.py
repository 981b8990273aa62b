"""Matrix products that are summed in place."""

import torch
from torch import Tensor


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, of matrices or batches of them; where dtypes are the same without a tensor for the product."""
    if a.dtype == total.dtype:
        add = torch.addmm if total.ndim == 2 else torch.baddbmm
        add(total, a, b, out=total)
    else:
        total += a @ b
