"""How large a target and its draft are: counted on modules built on the meta device, which hold shapes and no weights."""

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.training.optim import split_parameters

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class VisionSizes:
    """A vision tower, in numbers of values.

    Attributes:
        parameters: all of them.
        patch_matrices: weights every patch is multiplied with.
        token_matrices: weights every merged patch (an image token of the decoder) is multiplied with.
        hidden: width; likewise `intermediate`, of the MLP.
        depth: blocks.
        patch_values: pixels of a patch, channels and frames included.
        patches_per_token: patches merged into one image token.
        levels: DeepStack levels.
    """

    parameters: int
    patch_matrices: int
    token_matrices: int
    hidden: int
    intermediate: int
    depth: int
    patch_values: int
    patches_per_token: int
    levels: int


@dataclass(frozen=True, kw_only=True)
class TargetSizes:
    """A target, in numbers of values.

    Attributes:
        embedding: parameters of the token embedding.
        head: parameters of lm_head; 0 where it is the embedding.
        decoder: parameters of the decoder layers and the final norm, all experts included.
        active: those of `decoder` that one token uses.
        active_matrices: those of `active` that are matrices, the ones that are multiplied with.
        hidden: D_target.
        layers: L.
        query_width: H * K.
        key_width: H_kv * K.
        mlp_live: values per token that live at one time inside an MLP (or the experts of a layer).
        vocab: V.
        value_bytes: of a weight or an activation.
        vision: the vision tower, None without one.
    """

    embedding: int
    head: int
    decoder: int
    active: int
    active_matrices: int
    hidden: int
    layers: int
    query_width: int
    key_width: int
    mlp_live: int
    vocab: int
    value_bytes: int
    vision: VisionSizes | None = None

    @property
    def parameters(self) -> int:
        """All parameters; a tied lm_head counts once."""
        return self.embedding + self.head + self.decoder + (self.vision.parameters if self.vision else 0)


@dataclass(frozen=True, kw_only=True)
class DraftSizes:
    """A draft, in numbers of values.

    Attributes:
        parts: parameters of fc, attention, mlp, lm_head and norms; all are trained.
        muon: shapes of the matrices that Muon updates when it is the optimizer; AdamW has the rest.
        config: widths.
    """

    parts: dict[str, int]
    muon: tuple[tuple[int, int], ...]
    config: Eagle3Config

    @property
    def parameters(self) -> int:
        """All parameters, all trained."""
        return sum(self.parts.values())

    @property
    def muon_parameters(self) -> int:
        """Parameters in the matrices of `muon`."""
        return sum(rows * columns for rows, columns in self.muon)


def target_sizes(config: PretrainedConfig, dtype: str = "auto") -> TargetSizes:
    """Sizes of the model that transformers builds from `config`, in `dtype` ("auto": the checkpoint's)."""
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    auto = AutoModelForCausalLM if vision is None else AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(config)
    decoder = getattr(model.model, "language_model", model.model)
    embedding = decoder.embed_tokens.weight
    inner = {name: p for name, p in decoder.named_parameters() if p is not embedding}
    experts = getattr(text, "num_experts", None) or 1
    share = (getattr(text, "num_experts_per_tok", None) or 1) / experts if experts > 1 else 1.0
    active = {name: round(p.numel() * (share if ".experts." in name else 1)) for name, p in inner.items()}
    return TargetSizes(
        embedding=embedding.numel(),
        head=0 if model.lm_head.weight is embedding else model.lm_head.weight.numel(),
        decoder=sum(p.numel() for p in inner.values()),
        active=sum(active.values()),
        active_matrices=sum(active[name] for name, p in inner.items() if p.ndim >= 2),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        query_width=text.num_attention_heads * text.head_dim,
        key_width=text.num_key_value_heads * text.head_dim,
        mlp_live=_mlp_live(text, any(".experts." in name for name in inner)),
        vocab=text.vocab_size,
        value_bytes=DTYPE_BYTES[checkpoint_dtype(config) if dtype == "auto" else dtype],
        vision=None if vision is None else _vision_sizes(model.model.visual, vision),
    )


def draft_sizes(config: Eagle3Config) -> DraftSizes:
    """Sizes of the draft that `config` describes."""
    vocab = DraftVocab.from_counts(torch.ones(config.vocab_size), config.draft_vocab_size)
    with torch.device("meta"):
        draft = Eagle3Draft(config, vocab)
    parts: Counter = Counter()
    for name, parameter in draft.named_parameters():
        parts[_part(name)] += parameter.numel()
    muon, _ = split_parameters(draft.named_parameters())
    return DraftSizes(parts=dict(parts), muon=tuple((p.shape[0], p.shape[1]) for p in muon), config=config)


def _part(name: str) -> str:
    if "norm" in name:
        return "norms"
    return next(part for part in ("attn", "mlp", "lm_head", "fc") if part in name).replace("attn", "attention")


def _mlp_live(text: PretrainedConfig, experts: bool) -> int:
    """SwiGLU holds the activated gate, the other half and their product. Experts hold more, once per expert of a token: rows
    sorted by expert and their halves, or these rows, their results, the weighted results and those put back in order."""
    if not experts:
        return 3 * text.intermediate_size
    rows = max(text.hidden_size + 4 * text.moe_intermediate_size, 4 * text.hidden_size)
    return text.num_experts_per_tok * rows


def checkpoint_dtype(config: PretrainedConfig) -> str:
    """The checkpoint's dtype. Qwen3-VL's config.json says it where transformers drops it; all of Qwen's are bfloat16."""
    dtype = config.dtype or config.get_text_config().dtype or torch.bfloat16
    return str(dtype).removeprefix("torch.")


def _vision_sizes(visual: nn.Module, config: PretrainedConfig) -> VisionSizes:
    matrices = {name: p.numel() for name, p in visual.named_parameters() if p.ndim >= 2 and "pos_embed" not in name}
    token = sum(n for name, n in matrices.items() if "merger" in name)
    return VisionSizes(
        parameters=sum(p.numel() for p in visual.parameters()),
        patch_matrices=sum(matrices.values()) - token,
        token_matrices=token,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        depth=config.depth,
        patch_values=math.prod([config.in_channels, config.temporal_patch_size, config.patch_size, config.patch_size]),
        patches_per_token=config.spatial_merge_size**2,
        levels=len(config.deepstack_visual_indexes),
    )
