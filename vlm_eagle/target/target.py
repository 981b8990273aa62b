"""The frozen target: one class over Qwen3-VL, Qwen3-VL-MoE, Qwen3 and Qwen3-MoE as transformers implements them.

Three forwards, all with explicit positions because Qwen3VLModel otherwise keeps rope deltas as state between calls:
`features` (training), `prefill` and `verify` (decoding).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.capture import AuxCapture
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids


@dataclass
class Prefilled:
    """A prompt read by the target.

    Attributes:
        cache: T entries.
        aux_hidden: (T, 3 * D_target).
        logits: (V,) float32, the prediction of the first new token.
        rope_delta: added to the sequence index of every later token (0 for text).
    """

    cache: DynamicCache
    aux_hidden: Tensor
    logits: Tensor
    rope_delta: int


class Target:
    """A frozen model with its processor (or tokenizer) and the layers whose inputs feed the draft."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin | PreTrainedTokenizerBase,
        layer_ids: Sequence[int] | None = None,
    ):
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerBase = getattr(processor, "tokenizer", processor)
        self.decoder: nn.Module = getattr(model.model, "language_model", model.model)
        self.is_vision = hasattr(model.model, "language_model")
        self.config = model.config.get_text_config()
        vision = getattr(model.config, "vision_config", None)
        self.deepstack_levels = len(vision.deepstack_visual_indexes) if vision is not None else 0
        if layer_ids is None:
            layer_ids = default_layer_ids(self.config.num_hidden_layers, self.deepstack_levels)
        self.layer_ids = check_layer_ids(layer_ids, self.config.num_hidden_layers)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.embed_tokens.weight.device

    @property
    def embed_tokens(self) -> nn.Embedding:
        """The token embedding, shared with the draft, frozen."""
        return self.decoder.embed_tokens

    @property
    def eos_ids(self) -> frozenset[int]:
        """The token ids that end an answer."""
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = self.tokenizer.eos_token_id
        return frozenset(eos if isinstance(eos, (list, tuple)) else [eos])

    def logits(self, last_hidden: Tensor) -> Tensor:
        """(..., V) float32 from the normed final hidden state (..., D_target). Callers choose the positions."""
        return self.model.lm_head(last_hidden).float()

    def positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rotary positions and deltas: (3, B, T) for a vision target, (B, T) otherwise; and (B,), the M-RoPE delta."""
        if "image_grid_thw" in batch.pixels or "video_grid_thw" in batch.pixels:
            grids = {k: v for k, v in batch.pixels.items() if k.endswith("grid_thw")}
            positions, delta = self.model.model.get_rope_index(
                batch.input_ids, batch.pixels["mm_token_type_ids"], attention_mask=batch.attention_mask, **grids
            )
            return positions, delta.flatten()
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp_min(0)
        delta = torch.zeros(len(batch), dtype=torch.long, device=positions.device)
        return (positions.expand(3, -1, -1) if self.is_vision else positions), delta

    @torch.no_grad()
    def features(self, batch: Batch) -> TargetFeatures:
        """One frozen forward of a training batch; final hidden states are kept only where supervised."""
        with AuxCapture(self.decoder.layers, self.layer_ids) as capture:
            hidden = self._forward(batch, use_cache=False)
        return TargetFeatures(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            supervised=batch.supervised,
            aux_hidden=capture.concatenated(),
            last_hidden=hidden[batch.supervised.to(hidden.device)],
        )

    @torch.no_grad()
    def prefill(self, batch: Batch) -> Prefilled:
        """Reads one prompt (B = 1, no padding). Logits are made for its last position alone."""
        cache = DynamicCache(config=self.config)
        with AuxCapture(self.decoder.layers, self.layer_ids) as capture:
            hidden = self._forward(batch, use_cache=True, past_key_values=cache)
        _, delta = self.positions(batch)
        return Prefilled(cache, capture.concatenated()[0], self.logits(hidden[0, -1]), int(delta[0]))

    @torch.no_grad()
    def verify(
        self, cache: DynamicCache, tokens: Tensor, depths: Tensor, ancestors: Tensor, rope_delta: int
    ) -> tuple[Tensor, Tensor]:
        """One forward over the N nodes of a tree, appended to the cache.

        Args:
            cache: P committed entries; holds P + N afterwards (see `cache.keep_path`).
            tokens: (N,) int64.
            depths: (N,) int64, 0 at the root; a node's sequence index is P + depth.
            ancestors: (N, N) bool, [i, j] true iff j is i or an ancestor of i.
            rope_delta: from `prefill`; all three M-RoPE rows of a text token are sequence index + delta.

        Returns:
            logits (N, V) float32, and aux hidden states (N, 3 * D_target).
        """
        prefix, dtype = cache.get_seq_length(), self.embed_tokens.weight.dtype
        seen = torch.cat([ancestors.new_ones(len(tokens), prefix), ancestors], dim=1)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        positions = (prefix + depths + rope_delta)[None]
        with AuxCapture(self.decoder.layers, self.layer_ids) as capture:
            output = self.decoder(
                inputs_embeds=self.embed_tokens(tokens[None]),
                attention_mask=mask[None, None],
                position_ids=positions.expand(3, -1, -1) if self.is_vision else positions,
                past_key_values=cache,
                use_cache=True,
            )
        return self.logits(output.last_hidden_state[0]), capture.concatenated()[0]

    def _forward(self, batch: Batch, **cache_options: object) -> Tensor:
        """The normed final hidden state (B, T, D_target). Text goes to the decoder alone; the vision tower is not touched."""
        positions, _ = self.positions(batch)
        common = {"attention_mask": batch.attention_mask, "position_ids": positions, **cache_options}
        if "pixel_values" in batch.pixels or "pixel_values_videos" in batch.pixels:
            return self.model.model(input_ids=batch.input_ids, **batch.pixels, **common).last_hidden_state
        return self.decoder(input_ids=batch.input_ids, **common).last_hidden_state
