"""What the doctor needs to know about the target, all of it from the target's configuration."""

from dataclasses import dataclass

from transformers import PretrainedConfig

from vlm_eagle.draft.config import rope_theta
from vlm_eagle.errors import UserError
from vlm_eagle.interop.conventions import default_engine_layer_ids
from vlm_eagle.target.layer_ids import default_layer_ids


@dataclass(frozen=True)
class TargetFacts:
    """Sizes and conventions that a draft has to share.

    Attributes:
        default_ids: the aux layer ids that training takes unless told otherwise; None for a target too shallow for them.
        mrope_section: frequencies per axis of a target with M-RoPE.
        deepstack_levels: layers after which visual features are added.
    """

    hidden_size: int
    vocab_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    theta: float
    max_positions: int
    eps: float
    deepstack_levels: int
    mrope_section: tuple[int, ...] | None
    default_ids: tuple[int, ...] | None

    @classmethod
    def of(cls, config: PretrainedConfig) -> "TargetFacts":
        """From the configuration of a Qwen3 or Qwen3-VL."""
        text, vision = config.get_text_config(), getattr(config, "vision_config", None)
        levels = len(vision.deepstack_visual_indexes) if vision is not None else 0
        try:
            default = default_layer_ids(text.num_hidden_layers, levels)
        except UserError:
            default = None
        section = (getattr(text, "rope_parameters", None) or {}).get("mrope_section")
        return cls(
            hidden_size=text.hidden_size, vocab_size=text.vocab_size, num_layers=text.num_hidden_layers,
            num_heads=text.num_attention_heads, num_kv_heads=text.num_key_value_heads, head_dim=text.head_dim,
            theta=rope_theta(text), max_positions=text.max_position_embeddings, eps=text.rms_norm_eps,
            deepstack_levels=levels, mrope_section=tuple(section) if section else None, default_ids=default,
        )  # fmt: skip

    @property
    def engine_ids(self) -> tuple[int, ...]:
        """The ids that both engines take when a draft names none."""
        return default_engine_layer_ids(self.num_layers)
