"""Known misconfigurations, each as another interpretation of the same tensors; one that fits the answers better is real."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from vlm_eagle.doctor.interpretation import Interpretation, ids_under
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.interop.conventions import DEFAULT_ROPE_THETA, inputs_of

_RETRAIN = "Train again with the right alignment: row i takes h_i and the embedding of x_{i+1} and predicts x_{i+2}."


@dataclass(frozen=True)
class Misconfiguration:
    """One mistake that a draft may have been made or exported with.

    Attributes:
        name: stable, for scripts and for findings that ask to be measured.
        interpretation: what is right if this misconfiguration was made.
        what: the diagnosis, if this interpretation fits better.
        fix: the remedy.
        images: whether only prompts with images can tell.
        least: nats per token that it must be better by.
    """

    name: str
    interpretation: Interpretation
    what: str
    fix: str
    images: bool = False
    least: float = 0.015


def known_misconfigurations(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> list[Misconfiguration]:
    """Everything worth trying instead of `base`, no interpretation twice."""
    found, seen = [], {base}
    for maker in (_vocabulary, _layers, _states, _positions, _norms, _weights, _alignment):
        for misconfiguration in maker(base, draft, facts):
            if misconfiguration.interpretation not in seen:
                seen.add(misconfiguration.interpretation)
                found.append(misconfiguration)
    return found


def _vocabulary(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    d2t, t2d = draft.tensors.get("d2t"), draft.tensors.get("t2d")
    rows = (draft.shape("lm_head.weight") or (0, 0))[0]
    write = "Write d2t as offsets: target_id = draft_id + d2t[draft_id]."
    if d2t is not None and d2t.shape == (rows,):
        if bool((d2t >= 0).all()) and bool((d2t < facts.vocab_size).all()):
            yield Misconfiguration("d2t-absolute", replace(base, ids="absolute"), "d2t holds absolute token ids", write)
        what = "d2t holds offsets, but is read as absolute ids"
        yield Misconfiguration("d2t-offset", replace(base, ids="offset"), what, write)
    if t2d is not None and int((t2d != 0).sum()) == rows:
        what = "d2t lists other tokens than t2d, and the head's rows follow t2d"
        yield Misconfiguration(
            "d2t-from-t2d", replace(base, ids="t2d"), what, "Make d2t from t2d: its true entries in ascending order."
        )
    if rows <= facts.vocab_size:
        what = "the head's rows are the first token ids of the target itself; d2t moves them elsewhere"
        yield Misconfiguration(
            "d2t-identity", replace(base, ids="identity"), what, "Leave d2t and t2d out, or fill them with zeros."
        )
    if draft.flag("tie_word_embeddings"):
        what = "the head is the target's embedding table"
        yield Misconfiguration("tied", replace(base, tied=True), what, "Save the table as lm_head.weight and untie.")
    if "embed_tokens.weight" in draft.tensors:
        what = "the draft was trained with an embedding of its own, which SGLang replaces by the target's"
        fix = "Serve it with vLLM, or train with the target's embedding."
        yield Misconfiguration("own-embedding", replace(base, own_embedding=True), what, fix)


def _layers(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    nested, ids = ids_under(draft.config.get("eagle_config")), base.layer_ids
    choices = {
        "ids-down": (tuple(i - 1 for i in ids), "the aux layer ids are one too high"),
        "ids-up": (tuple(i + 1 for i in ids), "the aux layer ids are one too low"),
        "ids-nested": (inputs_of(nested or ()), "the nested aux layer ids are right, the top-level ones are wrong"),
        "ids-default": (facts.default_ids, "the draft was trained on the default layers of its trainer"),
        "ids-engine": (facts.engine_ids, "the draft was trained on the engines' default layers"),
    }
    for name, (other, what) in choices.items():
        if other and len(other) == len(ids) and min(other) >= 0 and max(other) < facts.num_layers:
            inputs, outputs = list(other), [i - 1 for i in other]
            fix = f"Write eagle_aux_hidden_state_layer_ids {inputs} at the top level and {outputs} inside eagle_config."
            yield Misconfiguration(name, replace(base, layer_ids=other), f"{what}: {list(ids)} should be {inputs}", fix)


def _states(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    for order in permutations(range(3)):
        names = ", ".join(("first", "second", "third")[i] for i in order)
        what = f"fc expects the aux hidden states in the order {names}"
        fix = "Swap the column blocks of fc.weight so that the lowest layer comes first."
        if len(base.aux_order) == 3:
            yield Misconfiguration(f"aux-order-{''.join(map(str, order))}", replace(base, aux_order=order), what, fix)
    if facts.deepstack_levels:
        other = not base.before_deepstack
        what = f"the draft was trained on aux hidden states {'without' if other else 'with'} DeepStack's additions"
        fix = f"Capture what layers receive, or train on layers from {facts.deepstack_levels + 1} on."
        yield Misconfiguration("deepstack-before", replace(base, before_deepstack=other), what, fix, images=True)
    if facts.mrope_section:
        other = "visual_embeds" if base.image_inputs == "token" else "token"
        names = {"visual_embeds": "the projected visual embeddings (SGLang)", "token": "the pad token's embedding (vLLM)"}
        what = f"at image tokens the draft was trained with {names[other]}"
        fix = "Serve it with the engine that feeds this, or train with image_inputs: mixed."
        yield Misconfiguration(f"{other}-embeddings", replace(base, image_inputs=other), what, fix, images=True)
    what, fix = "the draft was trained on a target in another precision", "Serve the target in the dtype it was trained with."
    yield Misconfiguration("bfloat16-target", replace(base, bfloat16_target=True), what, fix, least=0.1)


def _positions(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    for name, theta in (("theta-target", facts.theta), ("theta-10000", DEFAULT_ROPE_THETA), ("theta-1000000", 1e6)):
        what = f"the draft was trained with rope_theta {theta:g}, its config.json says {base.theta:g}"
        yield Misconfiguration(name, replace(base, theta=theta), what, f"Write rope_theta {theta:g} into config.json.")
    if facts.mrope_section:
        section = list(facts.mrope_section)
        for name, positions, words in (
            ("positions-1d", "index", "the 1-D sequence index"),
            ("mrope", "mrope", "interleaved M-RoPE"),
            ("mrope-chunked", "mrope-chunked", "chunked M-RoPE"),
        ):
            settings = {"mrope_section": section, "mrope_interleaved": positions == "mrope"}
            fix = f"Write rope_scaling {'null' if positions == 'index' else settings} into config.json."
            what = f"the draft was trained with {words} positions"
            yield Misconfiguration(name, replace(base, positions=positions), what, fix, images=True)
    what, fix = "the draft was trained without moving its position on from guess to guess", "Train again: step k is at i + k."
    yield Misconfiguration("positions-fixed", replace(base, advance=not base.advance), what, fix)
    what = "q_proj and k_proj have their rotary components interleaved (2i and 2i + 1), engines rotate halves (i and i + K/2)"
    fix = "Reorder the rows of each head of q_proj and k_proj: even components first, then odd."
    yield Misconfiguration("rotary-pairs", replace(base, rotary="pairs"), what, fix)


def _norms(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    flags = {
        "norm_before_residual": True,
        "norm_output": True,
        "norm_before_fc": "input_norm.weight" in draft.tensors,
        "fc_norm": all(f"fc_norm.{i}.weight" in draft.tensors for i in range(3)),
    }
    for flag, possible in flags.items():
        other = not getattr(base, flag)
        if possible:
            what = f"the draft was trained with {flag} {str(other).lower()}, its config.json says {str(not other).lower()}"
            interpretation = replace(base, **{flag: other})
            yield Misconfiguration(
                flag.replace("_", "-"), interpretation, what, f"Write {flag}: {str(other).lower()} into config.json."
            )
    what, fix = "the norms' weights are stored minus one (zero-centred)", "Add 1 to the weight of every norm."
    yield Misconfiguration("norm-offset", replace(base, norm_offset=True), what, fix)


def _weights(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    what = "attention's two inputs are swapped: the left half of q, k and v_proj's columns is made for the hidden state"
    fix = "Swap the column halves of q_proj, k_proj and v_proj: the embedding comes first."
    yield Misconfiguration("halves-swapped", replace(base, embedding_first=not base.embedding_first), what, fix)
    what, fix = "gate_proj and up_proj are swapped", "Swap the two tensors."
    yield Misconfiguration("gate-up-swapped", replace(base, gate_first=not base.gate_first), what, fix)
    rows = (draft.shape("midlayer.self_attn.q_proj.weight") or (0, 0))[0]
    kv_rows = (draft.shape("midlayer.self_attn.k_proj.weight") or (0, 0))[0]
    for head_dim in dict.fromkeys((facts.head_dim, 64, 128)):
        if rows and not rows % head_dim and not kv_rows % head_dim and not rows // head_dim % max(kv_rows // head_dim, 1):
            heads, kv_heads = rows // head_dim, kv_rows // head_dim
            what = f"the draft's heads have head_dim {head_dim}, its config.json says {rows // base.heads}"
            fix = f"Write head_dim {head_dim}, num_attention_heads {heads} and num_key_value_heads {kv_heads}."
            yield Misconfiguration(f"head-dim-{head_dim}", replace(base, heads=heads, kv_heads=kv_heads), what, fix)


def _alignment(base: Interpretation, draft: RawDraft, facts: TargetFacts) -> Iterator[Misconfiguration]:
    for shift, ahead, what in (
        (0, 2, "the draft was trained with embeddings that are not shifted: row i read x_i"),
        (0, 1, "the draft was trained without any shift: row i read x_i and predicts x_{i+1}, which the target already knows"),
        (1, 1, "the draft's labels are not shifted: it repeats the token it is given"),
        (1, 3, "the draft's labels are shifted too far: it predicts the token after the next"),
    ):
        interpretation = replace(base, shift=shift, ahead=ahead)
        yield Misconfiguration(f"alignment-{shift}-{ahead}", interpretation, what, _RETRAIN, least=0.3)
