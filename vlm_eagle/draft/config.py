"""The draft's configuration, and its form on disk: the `config.json` that SGLang and vLLM read."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from transformers import PretrainedConfig

from vlm_eagle.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Eagle3Config:
    """Sizes of an EAGLE-3 head (https://arxiv.org/abs/2503.01840) and what ties it to its target.

    `aux_layer_ids` are in the input convention. `dtype` is that of the saved weights. `fc_norm` (an RMSNorm on each of the
    three aux hidden states before fc) and `norm_output` (the normed output goes on to the next step) together are EAGLE-3.1.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    draft_vocab_size: int
    target_hidden_size: int
    aux_layer_ids: tuple[int, int, int]
    rope_theta: float
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    fc_norm: bool = False
    norm_output: bool = False
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.draft_vocab_size > self.vocab_size:
            raise UserError(
                f"draft_vocab_size {self.draft_vocab_size} exceeds the target's vocabulary of {self.vocab_size}. "
                "Give at most the latter."
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key-value heads evenly.")

    @classmethod
    def for_target(cls, target: PretrainedConfig, layer_ids: tuple[int, ...], draft_vocab_size: int) -> "Eagle3Config":
        """A head of one target layer's size, with the target's rotary base and context, which the engines use."""
        return cls(
            hidden_size=target.hidden_size,
            intermediate_size=target.intermediate_size,
            num_attention_heads=target.num_attention_heads,
            num_key_value_heads=target.num_key_value_heads,
            head_dim=target.head_dim,
            vocab_size=target.vocab_size,
            draft_vocab_size=min(draft_vocab_size, target.vocab_size),
            target_hidden_size=target.hidden_size,
            aux_layer_ids=tuple(layer_ids),
            rope_theta=rope_theta(target),
            max_position_embeddings=target.max_position_embeddings,
            rms_norm_eps=target.rms_norm_eps,
        )

    def to_json(self) -> dict[str, Any]:
        """The `config.json`. Both layer-id keys are written: vLLM reads the top-level one (inputs), SGLang the nested one
        (outputs). `tie_word_embeddings` must be false, or SGLang takes the embedding for the head."""
        sizes = asdict(self)
        dtype, ids = sizes.pop("dtype"), list(sizes.pop("aux_layer_ids"))
        return {
            "architectures": ["LlamaForCausalLMEagle3"],
            "model_type": "llama",
            **sizes,
            "num_hidden_layers": 1,
            "hidden_act": "silu",
            "rope_scaling": None,
            "attention_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": dtype,
            "num_aux_hidden_states": 3,
            "eagle_aux_hidden_state_layer_ids": ids,
            "eagle_config": {
                "use_aux_hidden_state": True,
                "eagle_aux_hidden_state_layer_ids": [i - 1 for i in ids],
            },
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Eagle3Config":
        """Reads a `config.json` of our own form.

        Raises:
            UserError: another architecture, a missing value, or an option that this head does not have.
        """
        if row.get("architectures") != ["LlamaForCausalLMEagle3"]:
            raise UserError(
                f"config.json names architectures {row.get('architectures')}, expected ['LlamaForCausalLMEagle3']. "
                "This is not an EAGLE-3 draft in the native layout."
            )
        for key in ("rope_scaling", "norm_before_fc", "norm_before_residual", "attention_bias"):
            if row.get(key):
                raise UserError(f"config.json sets {key} = {row[key]!r}, which this version cannot decode correctly.")
        row = {
            "fc_norm": False,
            "norm_output": False,
            **row,
            "aux_layer_ids": _layer_ids(row),
            "dtype": row.get("dtype") or row.get("torch_dtype"),
        }
        missing = [f.name for f in fields(cls) if row.get(f.name) is None]
        if missing:
            raise UserError(f"config.json lacks {', '.join(missing)}.")
        return cls(**{f.name: row[f.name] for f in fields(cls)})


def rope_theta(target: PretrainedConfig) -> float:
    """The target's rotary base, wherever its transformers version keeps it."""
    parameters = getattr(target, "rope_parameters", None) or {}
    return float(parameters.get("rope_theta") or target.rope_theta)


def _layer_ids(row: dict[str, Any]) -> tuple[int, ...] | None:
    if row.get("eagle_aux_hidden_state_layer_ids"):
        return tuple(row["eagle_aux_hidden_state_layer_ids"])
    nested = (row.get("eagle_config") or {}).get("eagle_aux_hidden_state_layer_ids")
    return tuple(i + 1 for i in nested) if nested else None
