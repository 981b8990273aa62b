"""Matrix products that are summed in place."""

from torch import Tensor


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, of matrices or batches of them; where dtypes are the same without a tensor for the product."""
    if a.dtype != total.dtype:
        total += a @ b
    elif total.ndim == 2:
        total.addmm_(a, b)
    else:
        total.baddbmm_(a, b)
