"""The frozen target: one class over Qwen3-VL, Qwen3-VL-MoE, Qwen3 and Qwen3-MoE as transformers implements them.

All forwards get explicit positions, because Qwen3VLModel otherwise keeps rope deltas as state between calls: `features`
(training), `prefill`, `step` and `verify` (decoding).
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from vlm_eagle.records import Batch, TargetFeatures
from vlm_eagle.target.capture import AuxCapture
from vlm_eagle.target.kv_cache import SeqLens, TreeKVCache
from vlm_eagle.target.layer_ids import check_layer_ids, default_layer_ids
from vlm_eagle.target.prefix import tail
from vlm_eagle.target.tree_mask import additive, tree_mask


@dataclass
class Prefilled:
    """Prompts read by the target.

    Attributes:
        cache: holds `lengths` entries.
        aux_hidden: (B, T, 3 * D_target), of the positions that were read; None if not asked for.
        logits: (B, V) float32, the prediction of the first new token.
        lengths: (B,) int64, tokens of each prompt.
        rope_delta: (B,) int64, added to the sequence index of every later token (0 for text).
        positions: (3, B, T) for a vision target, (B, T) otherwise: rotary positions of those that were read.
        embeddings: (B, T, D_target), what the first layer read there, visual embeddings included; None if not asked for.
    """

    cache: TreeKVCache
    aux_hidden: Tensor | None
    logits: Tensor
    lengths: Tensor
    rope_delta: Tensor
    positions: Tensor
    embeddings: Tensor | None = None

    @property
    def seq_lens(self) -> SeqLens:
        """For `Target.verify`; the host waits for the longest length."""
        return SeqLens(self.lengths, self.rope_delta, int(self.lengths.max()))


def fingerprint(config: PretrainedConfig, embed_tokens: Tensor, lm_head: Tensor) -> str:
    """A digest of a text configuration and of some rows of both tables (fine-tuning changes all of them)."""
    sizes = {key: getattr(config, key) for key in ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads")}
    digest = hashlib.sha256(str(sizes).encode())
    for table in (embed_tokens, lm_head):
        digest.update(table.detach()[:: max(len(table) // 64, 1)].bfloat16().view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


class Target:
    """A frozen model with its processor (or tokenizer) and the layers whose inputs feed the draft."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin | PreTrainedTokenizerBase | None = None,  # None if no text is read or written (hf.py)
        layer_ids: Sequence[int] | None = None,
    ):
        self.model = model
        own: Any = processor
        self.processor: ProcessorMixin | PreTrainedTokenizerBase = own
        self.tokenizer: PreTrainedTokenizerBase = getattr(own, "tokenizer", own)
        self.decoder: Any = getattr(model.model, "language_model", model.model)
        self.is_vision = hasattr(model.model, "language_model")
        self.config = model.config.get_text_config()
        vision = getattr(model.config, "vision_config", None)
        self.deepstack_levels = len(getattr(vision, "deepstack_visual_indexes", ()))  # Qwen2.5-VL has none
        if layer_ids is None:
            layer_ids = default_layer_ids(self.config.num_hidden_layers, self.deepstack_levels)
        self.layer_ids = check_layer_ids(layer_ids, self.config.num_hidden_layers)
        names = inspect.signature(type(self.decoder).forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"

    def freeze(self) -> "Target":
        """Switches to evaluation mode and turns gradients off. Returns the target itself."""
        self.model.eval().requires_grad_(False)
        return self

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.embed_tokens.weight.dtype

    @property
    def embed_tokens(self) -> nn.Embedding:
        """The token embedding, shared with the draft, frozen."""
        return self.decoder.embed_tokens

    @property
    def fingerprint(self) -> str:
        """Identifies the target's weights."""
        return fingerprint(self.config, self.embed_tokens.weight, self.lm_head_weight)

    @property
    def lm_head_weight(self) -> Tensor:
        """(V, D_target)."""
        return self.model.lm_head.weight

    @property
    def eos_ids(self) -> frozenset[int]:
        """The token ids that end an answer."""
        generation: Any = self.model.generation_config
        eos: Any = self.tokenizer.eos_token_id if generation.eos_token_id is None else generation.eos_token_id
        return frozenset(eos if isinstance(eos, (list, tuple)) else [eos])

    def logits(self, last_hidden: Tensor) -> Tensor:
        """(..., V) float32 from the normed final hidden state (..., D_target), on its device. Callers choose the positions."""
        return self.model.lm_head(last_hidden).float().to(last_hidden.device)

    def positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rotary positions and deltas: (3, B, T) for a vision target, (B, T) otherwise; and (B,), the M-RoPE delta."""
        if "image_grid_thw" in batch.vision_inputs or "video_grid_thw" in batch.vision_inputs:
            grids = {k: v for k, v in batch.vision_inputs.items() if k.endswith("grid_thw")}
            positions, delta = self.model.model.get_rope_index(
                batch.input_ids, batch.vision_inputs["mm_token_type_ids"], attention_mask=batch.attention_mask, **grids
            )
            return positions, delta.flatten()
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp_min(0)
        delta = torch.zeros(len(batch), dtype=torch.long, device=positions.device)
        return (positions.expand(3, -1, -1) if self.is_vision else positions), delta

    @torch.no_grad()
    def features(self, batch: Batch, visual: bool = False) -> TargetFeatures:
        """One frozen forward of a training batch; final hidden states are kept only where supervised. With `visual`, the
        projected visual embeddings are kept as well, if the batch has any."""
        with AuxCapture(self.decoder.layers, self.layer_ids + ((0,) if visual else ())) as capture:
            positions, _ = self.positions(batch)
            hidden = self._forward(batch, batch.attention_mask, positions, use_cache=False)
        at = self.visual_mask(batch) if visual else None
        return TargetFeatures(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            loss_mask=batch.loss_mask,
            aux_hidden=capture.concatenated(self.layer_ids),
            last_hidden=hidden[batch.loss_mask.to(hidden.device)],
            visual=None if at is None else capture.states[0][at.to(capture.states[0].device)],
            visual_mask=at,
            ids=batch.ids,
            skipped=batch.skipped,
        )

    def visual_mask(self, batch: Batch) -> Tensor | None:
        """(B, T) bool, image and video tokens; None in a batch without pixels."""
        if not batch.vision_inputs:
            return None
        config = self.model.config
        return (batch.input_ids == config.image_token_id) | (batch.input_ids == config.video_token_id)

    @torch.no_grad()
    def prefill(
        self, batch: Batch, cache: TreeKVCache | None = None, start: int = 0, *, aux: bool = True, embeddings: bool = False
    ) -> Prefilled:
        """Reads B prompts, right-padded if they differ in length. Logits are made for each one's last position alone.

        Args:
            batch: the prompts.
            cache: where keys and values go; None for a new one that just holds the prompts.
            start: positions before it are in `cache` already and are not read again (B = 1, and no image is cut in two).
            aux: keep the aux hidden states.
            embeddings: keep what the first layer reads.
        """
        length = batch.input_ids.shape[1]
        cache = cache if cache is not None else TreeKVCache(self.config.num_hidden_layers, length)
        positions, rope_delta = self.positions(batch)
        lengths = batch.attention_mask.sum(1)
        mask = batch.attention_mask
        if start:
            slots = torch.arange(start, length, device=self.device)
            seen = torch.arange(length, device=self.device) <= slots[:, None]
            mask = additive(seen[None], self.dtype)
            cache.set_slots(slots[None], length)
            batch, positions = tail(batch, start, self.model.config), positions[..., start:]
        else:
            cache.start_prefill()
        layer_ids = (self.layer_ids if aux else ()) + ((0,) if embeddings else ())
        with AuxCapture(self.decoder.layers, layer_ids) as capture:
            hidden = self._forward(batch, mask, positions, **self._caching(cache))
        last = hidden[torch.arange(len(hidden), device=hidden.device), (lengths - 1 - start).to(hidden.device)]
        aux_hidden = capture.concatenated(self.layer_ids) if aux else None
        return Prefilled(cache, aux_hidden, self.logits(last), lengths, rope_delta, positions, capture.states.get(0))

    @torch.no_grad()
    def step(self, cache: TreeKVCache, tokens: Tensor, seqs: SeqLens, *, even: bool = False) -> Tensor:
        """(B, V) float32 logits after one more token per sequence, written behind its committed entries.

        Args:
            cache: holds the committed entries.
            tokens: (B,) int64.
            seqs: of the committed entries.
            even: the host knows that all sequences have `seqs.max` entries, so that no mask is needed.
        """
        mask = None
        if even:
            cache.set_next_slot(seqs.max)
        else:
            kv_len = min(seqs.max + 1, cache.capacity)
            cache.set_slots(seqs.lengths[:, None], kv_len)
            seen = torch.arange(kv_len, device=seqs.lengths.device) <= seqs.lengths[:, None]
            mask = additive(seen[:, None], self.dtype)
        positions = (seqs.lengths + seqs.rope_delta)[:, None]
        hidden = self._decode(self.embed_tokens(tokens[:, None]), mask, positions, cache)
        return self.logits(hidden[:, -1])

    @torch.no_grad()
    def verify(
        self, cache: TreeKVCache, tokens: Tensor, depths: Tensor, ancestors: Tensor, seqs: SeqLens
    ) -> tuple[Tensor, Tensor]:
        """One forward over the N nodes of every sequence's tree, written behind its committed entries.

        Args:
            cache: holds the committed entries; the nodes follow (see `TreeKVCache.compact`).
            tokens: (B, N) int64.
            depths: (B, N) int64, 0 at the root; a node's sequence index is lengths[b] + depth.
            ancestors: (B, N, N) bool, [b, i, j] true iff j is i or an ancestor of i.
            seqs: of the committed entries; all three M-RoPE coordinates of a text token are sequence index + rope_delta.

        Returns:
            logits (B, N, V) float32, and aux hidden states (B, N, 3 * D_target).
        """
        n = tokens.shape[1]
        kv_len = min(seqs.max + n, cache.capacity)
        cache.set_slots(seqs.lengths[:, None] + torch.arange(n, device=tokens.device), kv_len)
        positions = seqs.lengths[:, None] + depths + seqs.rope_delta[:, None]
        with AuxCapture(self.decoder.layers, self.layer_ids) as capture:
            mask = additive(tree_mask(seqs.lengths, ancestors, kv_len), self.dtype)
            hidden = self._decode(self.embed_tokens(tokens), mask, positions, cache)
        return self.logits(hidden), capture.concatenated()

    def _decode(self, embeddings: Tensor, mask: Tensor | None, positions: Tensor, cache: TreeKVCache) -> Tensor:
        """The normed final hidden state (B, R, D_target) of text tokens at `positions` (B, R) behind what the cache holds."""
        positions = positions.expand(3, -1, -1) if self.is_vision else positions
        options = {"attention_mask": mask, "position_ids": positions, **self._caching(cache)}
        return self.decoder(inputs_embeds=embeddings, **options).last_hidden_state

    def _caching(self, cache: TreeKVCache) -> dict[str, object]:
        """The model's arguments for a cache, whose name changed in transformers 5.24."""
        return {"use_cache": True, self._cache_argument: cache}

    def _forward(self, batch: Batch, mask: Tensor, positions: Tensor, **cache_options: object) -> Tensor:
        """The normed final hidden state (B, T, D_target). Text goes to the decoder alone; the vision tower is not touched."""
        common = {"attention_mask": mask, "position_ids": positions, **cache_options}
        if "pixel_values" in batch.vision_inputs or "pixel_values_videos" in batch.vision_inputs:
            return self.model.model(input_ids=batch.input_ids, **batch.vision_inputs, **common).last_hidden_state
        return self.decoder(input_ids=batch.input_ids, **common).last_hidden_state
