"""Which decoder layers the aux hidden states come from. An id `v` means the *input* of layer `v` (vLLM's convention);
SGLang's nested key counts outputs, so there it is `v - 1`."""

from collections.abc import Sequence

from vlm_eagle.errors import UserError


def default_layer_ids(num_layers: int, deepstack_levels: int = 0) -> tuple[int, int, int]:
    """A low, a middle and a high layer: (low, L // 2, L - 3).

    DeepStack adds visual features after layers 0 .. levels - 1. `low` is at least levels + 1, so that engines which
    capture before the addition and engines which capture after it see the same states.

    Raises:
        UserError: the target is too shallow for three distinct layers.
    """
    low = max(2, deepstack_levels + 1)
    ids = (low, num_layers // 2, num_layers - 3)
    if not ids[0] < ids[1] < ids[2]:
        raise UserError(
            f"The target has {num_layers} layers and {deepstack_levels} DeepStack levels: the default aux layer ids would be "
            f"{ids}, which are not strictly ascending. Set three ascending layer ids, or use a deeper target."
        )
    return ids


def check_layer_ids(ids: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The ids as a tuple. Raises UserError unless they are three strictly ascending ids of existing layers (vLLM would sort and
    de-duplicate others silently)."""
    ids = tuple(int(i) for i in ids)
    if len(ids) != 3 or list(ids) != sorted(set(ids)) or ids[0] < 0 or ids[-1] >= num_layers:
        raise UserError(f"Aux layer ids must be three ascending numbers in 0..{num_layers - 1}, found {ids}.")
    return ids
