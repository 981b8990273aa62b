"""The draft's configuration, and its form on disk: the `config.json` that SGLang and vLLM read."""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from transformers import PretrainedConfig

from vlm_eagle.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")
ARCHITECTURES = {  # whether queries and keys are normed -> model_type, architecture
    False: ("llama", "LlamaForCausalLMEagle3"),
    True: ("qwen3", "Eagle3Qwen3ForCausalLM"),
}


@dataclass(frozen=True, kw_only=True)
class Eagle3Config:
    """Sizes of an EAGLE-3 head (https://arxiv.org/abs/2503.01840) and what ties it to its target.

    `aux_layer_ids` are in the input convention. `dtype` is that of the saved weights. `fc_norm` (an RMSNorm on each of the
    three aux hidden states before fc) and `norm_output` (the normed output goes on to the next step) together are EAGLE-3.1.

    The rest is for drafts made by others; we train none of it. `norm_before_fc`: one RMSNorm over the three concatenated.
    `norm_before_residual`: the residual starts from the normed hidden state. `qk_norm`: a Qwen3 layer. `has_own_embed_tokens`:
    a table instead of the target's. `mrope_section`: rotary positions are the target's three coordinates, with this many
    frequencies each, interleaved (Qwen3-VL) or in blocks (Qwen2.5-VL).
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
    norm_before_fc: bool = False
    norm_before_residual: bool = False
    qk_norm: bool = False
    has_own_embed_tokens: bool = False
    mrope_section: tuple[int, int, int] | None = None
    mrope_interleaved: bool = False
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        self._check_types()
        if self.draft_vocab_size > self.vocab_size:
            raise UserError(
                f"draft_vocab_size {self.draft_vocab_size} exceeds the target's vocabulary of {self.vocab_size}. Lower it."
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key-value heads evenly.")
        if self.mrope_section and 2 * sum(self.mrope_section) != self.head_dim:
            raise UserError(f"mrope_section {self.mrope_section} does not add up to half of head_dim {self.head_dim}.")

    def _check_types(self) -> None:
        kinds = {int: "a positive whole number", float: "a positive number", bool: "true or false"}
        for f in fields(self):
            value = getattr(self, f.name)
            good = {
                int: type(value) is int and value > 0,
                float: type(value) in (int, float) and 0 < value < float("inf"),
                bool: type(value) is bool,
            }
            if not good.get(f.type, True):
                raise UserError(f"{f.name} must be {kinds[f.type]}, found {value!r}.")
        for ids in (self.aux_layer_ids, self.mrope_section or (0, 0, 0)):
            if len(ids) != 3 or not all(type(i) is int and i >= 0 for i in ids):
                raise UserError(f"aux layer ids and mrope_section are three whole numbers each, found {ids}.")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, found {self.dtype!r}.")

    @classmethod
    def for_target(cls, target: PretrainedConfig, layer_ids: tuple[int, ...], draft_vocab_size: int) -> "Eagle3Config":
        """A head of one target layer's size, with the target's rotary base and context, which the engines use."""
        return cls(
            hidden_size=target.hidden_size,
            intermediate_size=target.intermediate_size,
            num_attention_heads=target.num_attention_heads,
            num_key_value_heads=target.num_key_value_heads,
            head_dim=getattr(target, "head_dim", None) or target.hidden_size // target.num_attention_heads,
            vocab_size=target.vocab_size,
            draft_vocab_size=min(draft_vocab_size, target.vocab_size),
            target_hidden_size=target.hidden_size,
            aux_layer_ids=tuple(layer_ids),  # pyright: ignore[reportArgumentType] # __post_init__ counts them
            rope_theta=rope_theta(target),
            max_position_embeddings=target.max_position_embeddings,
            rms_norm_eps=target.rms_norm_eps,
        )

    def to_json(self) -> dict[str, Any]:
        """The `config.json`. Both layer-id keys are written: vLLM reads the top-level one (inputs), SGLang the nested one
        (outputs). `tie_word_embeddings` must be false, or SGLang takes the embedding for the head."""
        sizes = asdict(self)
        dtype, ids = sizes.pop("dtype"), list(sizes.pop("aux_layer_ids"))
        model_type, architecture = ARCHITECTURES[sizes.pop("qk_norm")]
        section, interleaved = sizes.pop("mrope_section"), sizes.pop("mrope_interleaved")
        scaling = {"rope_type": "default", "mrope_section": list(section or ()), "mrope_interleaved": interleaved}
        return {
            "architectures": [architecture], "model_type": model_type, **sizes, "num_hidden_layers": 1, "hidden_act": "silu",
            "rope_scaling": scaling if section else None, "attention_bias": False, "tie_word_embeddings": False,
            "torch_dtype": dtype, "num_aux_hidden_states": 3, "eagle_aux_hidden_state_layer_ids": ids,
            "eagle_config": {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": [i - 1 for i in ids]},
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Eagle3Config":
        """Reads a `config.json` of our own form.

        Raises:
            UserError: another architecture, a missing value, or an option that this head does not have.
        """
        known = [[architecture] for _, architecture in ARCHITECTURES.values()]
        if raw.get("architectures") not in known:
            raise UserError(
                f"config.json names architectures {raw.get('architectures')}, expected one of {known}. This is not an EAGLE-3 "
                "draft in the native layout. If others made it, run vlm-eagle import."
            )
        if raw.get("attention_bias"):
            raise UserError("config.json sets attention_bias, which this version cannot decode correctly.")
        section, interleaved = mrope(raw)
        given = {
            "aux_layer_ids": _layer_ids(raw),
            "dtype": raw.get("dtype") or raw.get("torch_dtype"),
            "qk_norm": raw["architectures"] == [ARCHITECTURES[True][1]],
            "mrope_section": section,
            "mrope_interleaved": interleaved,
        }
        values = {f.name: value for f in fields(cls) if (value := (raw | given).get(f.name)) is not None}
        missing = [f.name for f in fields(cls) if (f.default is MISSING or f.name == "dtype") and f.name not in values]
        if missing:
            raise UserError(f"config.json lacks {', '.join(missing)}.")
        return cls(**values)


def mrope(raw: dict[str, Any]) -> tuple[tuple[int, int, int] | None, bool]:
    """`mrope_section` and `mrope_interleaved` from a config's rope_scaling or rope_parameters; (None, False) for 1-D RoPE.

    Raises:
        UserError: another scaling (yarn, llama3, ...), which this head does not have.
    """
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(scaling, dict):
        raise UserError(f"config.json: rope_scaling must be an object, found {scaling!r}.")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    partial = scaling.get("partial_rotary_factor") or 1
    if kind not in ("default", "mrope") or partial != 1:
        raise UserError(f"config.json scales RoPE ({scaling}), which this version cannot decode correctly.")
    section = scaling.get("mrope_section")
    if not section:
        return None, False
    if not isinstance(section, list):
        raise UserError(f"mrope_section must be a list of three numbers, found {section!r}.")
    return tuple(section), bool(scaling.get("mrope_interleaved", False))


def rope_theta(target: PretrainedConfig) -> float:
    """The target's rotary base, wherever its transformers version keeps it."""
    parameters = getattr(target, "rope_parameters", None) or {}
    return float(parameters.get("rope_theta") or target.rope_theta)


def _layer_ids(raw: dict[str, Any]) -> tuple[int, ...] | None:
    key = "eagle_aux_hidden_state_layer_ids"
    try:
        nested = (raw.get("eagle_config") or {}).get(key) or ()
        return tuple(raw.get(key) or (i + 1 for i in nested)) or None
    except (TypeError, AttributeError) as error:
        raise UserError(f"config.json: {key} must be a list of numbers, and eagle_config an object.") from error
