"""Captures aux hidden states by forward pre-hooks: the inputs of chosen decoder layers.

transformers' `output_hidden_states` records the outputs of layers *before* DeepStack adds the visual features; the serving
engines feed the draft what the next layer really receives, and a pre-hook on that layer sees exactly this.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AuxCapture:
    """Context manager. Inside it, every forward of the decoder leaves `states`, read with `concatenated()`."""

    def __init__(self, layers: nn.ModuleList, layer_ids: Sequence[int]):
        self.layers, self.layer_ids = layers, tuple(layer_ids)
        self.states: dict[int, Tensor] = {}

    def __enter__(self) -> "AuxCapture":
        self._hooks = [self.layers[i].register_forward_pre_hook(self._keep(i), with_kwargs=True) for i in self.layer_ids]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, layer_id: int):
        def hook(_: nn.Module, args: tuple, kwargs: dict) -> None:
            self.states[layer_id] = args[0] if args else kwargs["hidden_states"]

        return hook

    def concatenated(self, layer_ids: Sequence[int] | None = None) -> Tensor:
        """(B, T, 3 * D_target), in the order of `layer_ids`, by default all that are captured."""
        layer_ids = self.layer_ids if layer_ids is None else layer_ids
        device = self.states[layer_ids[-1]].device  # a target spread over devices captures on several
        return torch.cat([self.states[i].to(device) for i in layer_ids], dim=-1)
