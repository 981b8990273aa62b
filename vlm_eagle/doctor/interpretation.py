"""One interpretation of a draft: everything that its tensors do not determine and that is often wrong."""

from dataclasses import dataclass
from typing import Literal

from vlm_eagle.config import ImageInputs
from vlm_eagle.doctor.raw_draft import RawDraft, as_number
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.interop.conventions import LAYER_IDS, inputs_of

Rotary = Literal["halves", "pairs"]
Positions = Literal["index", "mrope", "mrope-chunked"]
Ids = Literal["offset", "absolute", "t2d", "identity"]


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """How tensors, tokens and states are put together. The defaults are the native layout.

    Attributes:
        layer_ids: inputs of these layers are the aux hidden states.
        aux_order: which of them comes first, second, third in the concatenation.
        before_deepstack: states are taken before DeepStack adds the visual features.
        bfloat16_target: states are rounded to bfloat16.
        image_inputs: what the draft reads at image tokens.
        shift: row i reads the embedding of x_{i + shift}.
        ahead: row i predicts x_{i + ahead}.
        theta: rotary base.
        rotary: which components are rotated together: i and i + K/2, or 2i and 2i + 1.
        positions: the sequence index, or the target's M-RoPE coordinates, interleaved or chunked.
        advance: the position moves on with the TTT step.
        heads: number of query heads.
        kv_heads: number of key-value heads.
        embedding_first: order of the two halves that attention reads.
        gate_first: gate_proj is the gate, up_proj the linear half.
        norm_before_residual: the residual is the normed hidden state.
        norm_output: the normed output goes on to the next step.
        norm_before_fc: one norm over the concatenated states.
        fc_norm: one norm on each of the states.
        norm_offset: norms scale by 1 + weight.
        eps: of all norms.
        ids: what d2t means.
        tied: the embedding is the head.
        own_embedding: the draft's embed_tokens instead of the target's.
    """

    layer_ids: tuple[int, ...]
    heads: int
    kv_heads: int
    theta: float
    eps: float = 1e-6
    aux_order: tuple[int, ...] = (0, 1, 2)
    before_deepstack: bool = False
    bfloat16_target: bool = False
    image_inputs: ImageInputs = "token"
    shift: int = 1
    ahead: int = 2
    rotary: Rotary = "halves"
    positions: Positions = "index"
    advance: bool = True
    embedding_first: bool = True
    gate_first: bool = True
    norm_before_residual: bool = False
    norm_output: bool = False
    norm_before_fc: bool = False
    fc_norm: bool = False
    norm_offset: bool = False
    ids: Ids = "offset"
    tied: bool = False
    own_embedding: bool = False


def as_written(draft: RawDraft, facts: TargetFacts, image_inputs: ImageInputs = "token") -> Interpretation:
    """What engines make of the draft's config.json. Values that are missing, or that the tensors refute, are taken from the
    tensors and the target: the static checks have named them, and the rest of the draft should still be examined."""
    rows = (draft.shape("midlayer.self_attn.q_proj.weight") or (0, 0))[0]
    kv_rows = (draft.shape("midlayer.self_attn.k_proj.weight") or (0, 0))[0]
    head_dim = _head_dim(draft, facts, rows)
    return Interpretation(
        layer_ids=tuple(sorted(set(layer_ids(draft.config) or facts.engine_ids))),  # as vLLM takes them
        heads=max(rows // head_dim, 1),
        kv_heads=max(kv_rows // head_dim, 1),
        theta=float(theta(draft) or facts.theta),
        eps=float(draft.number("rms_norm_eps") or facts.eps),
        positions=_positions(draft),
        image_inputs=image_inputs,
        norm_before_residual=draft.flag("norm_before_residual"),
        norm_output=draft.flag("norm_output"),
        norm_before_fc=draft.flag("norm_before_fc") and "input_norm.weight" in draft.tensors,
        fc_norm=draft.flag("fc_norm") and all(f"fc_norm.{i}.weight" in draft.tensors for i in range(3)),
        ids="offset" if "d2t" in draft.tensors else "identity",
    )


def layer_ids(config: dict) -> tuple[int, ...] | None:
    """The aux layer ids of a config.json in the input convention, top-level key first, as vLLM reads it."""
    return ids_under(config) or (inputs_of(nested) if (nested := ids_under(config.get("eagle_config"))) else None)


def ids_under(config: object) -> tuple[int, ...] | None:
    """The list of ids directly in an object, whatever its convention; None if there is none of integers."""
    ids = config.get(LAYER_IDS) if isinstance(config, dict) else None
    if not isinstance(ids, list) or not ids or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        return None
    return tuple(ids)


def theta(draft: RawDraft) -> float | None:
    """The rotary base that the draft's configuration states."""
    nested = draft.config.get("rope_parameters")
    stated = draft.number("rope_theta")
    return as_number(nested.get("rope_theta")) if stated is None and isinstance(nested, dict) else stated


def mrope(draft: RawDraft) -> dict | None:
    """The M-RoPE settings of the draft's configuration, if it has any."""
    for key in ("rope_scaling", "rope_parameters"):
        value = draft.config.get(key)
        section = value.get("mrope_section") if isinstance(value, dict) else None
        if isinstance(section, list) and len(section) == 3 and all(isinstance(n, int) for n in section):
            return value
    return None


def _positions(draft: RawDraft) -> Positions:
    settings = mrope(draft)
    if settings is None:
        return "index"
    return "mrope" if settings.get("mrope_interleaved") else "mrope-chunked"


def _head_dim(draft: RawDraft, facts: TargetFacts, rows: int) -> int:
    stated, heads = draft.number("head_dim"), draft.number("num_attention_heads")
    if stated and stated > 0 and stated == int(stated) and rows % int(stated) == 0:
        return int(stated)
    if heads and heads >= 1 and rows and rows % int(heads) == 0:
        return rows // int(heads)
    return facts.head_dim
