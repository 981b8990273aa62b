"""The usual mistakes, each as another reading of the same tensors: if it fits the target's answers better, it was made."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from vlm_eagle.interop.doctor.raw_draft import RawDraft
from vlm_eagle.interop.doctor.readings.reading import Reading, ids_under
from vlm_eagle.interop.doctor.target_facts import TargetFacts

_RETRAIN = "Train again with the right alignment: row i takes h_i and the embedding of x_{i+1} and predicts x_{i+2}."


@dataclass(frozen=True)
class Mistake:
    """One.

    Attributes:
        name: stable, for scripts and for findings that ask to be measured.
        reading: the draft read as if the mistake had been made.
        what: the diagnosis, if this reading fits better.
        fix: the remedy.
        images: whether only prompts with images can tell.
        least: nats per token that it must be better by.
    """

    name: str
    reading: Reading
    what: str
    fix: str
    images: bool = False
    least: float = 0.015


def known_misconfigurations(base: Reading, draft: RawDraft, facts: TargetFacts) -> list[Mistake]:
    """Everything worth trying instead of `base`, no reading twice."""
    found, seen = [], {base}
    for maker in (_vocabulary, _layers, _states, _positions, _norms, _weights, _alignment):
        for mistake in maker(base, draft, facts):
            if mistake.reading not in seen:
                seen.add(mistake.reading)
                found.append(mistake)
    return found


def _vocabulary(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    d2t, t2d = draft.tensors.get("d2t"), draft.tensors.get("t2d")
    rows = (draft.shape("lm_head.weight") or (0, 0))[0]
    write = "Write d2t as offsets: target_id = draft_id + d2t[draft_id]."
    if d2t is not None and d2t.shape == (rows,):
        if bool((d2t >= 0).all()) and bool((d2t < facts.vocab_size).all()):
            yield Mistake("d2t-absolute", replace(base, ids="absolute"), "d2t holds absolute token ids", write)
        what = "d2t holds offsets, but is read as absolute ids"
        yield Mistake("d2t-offset", replace(base, ids="offset"), what, write)
    if t2d is not None and int((t2d != 0).sum()) == rows:
        what = "d2t lists other tokens than t2d, and the head's rows follow t2d"
        yield Mistake("d2t-from-t2d", replace(base, ids="t2d"), what, "Make d2t from t2d: its true entries in ascending order.")
    if rows <= facts.vocab_size:
        what = "the head's rows are the first token ids of the target itself; d2t moves them elsewhere"
        yield Mistake("d2t-identity", replace(base, ids="identity"), what, "Leave d2t and t2d out, or fill them with zeros.")
    if draft.flag("tie_word_embeddings"):
        what = "the head is the target's embedding table"
        yield Mistake("tied", replace(base, tied=True), what, "Save the table as lm_head.weight and untie.")
    if "embed_tokens.weight" in draft.tensors:
        what = "the draft was trained with an embedding of its own, which SGLang replaces by the target's"
        fix = "Serve it with vLLM, or train with the target's embedding."
        yield Mistake("own-embedding", replace(base, own_embedding=True), what, fix)


def _layers(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    nested, ids = ids_under(draft.config.get("eagle_config")), base.layer_ids
    choices = {
        "ids-down": (tuple(i - 1 for i in ids), "the aux layer ids are one too high"),
        "ids-up": (tuple(i + 1 for i in ids), "the aux layer ids are one too low"),
        "ids-nested": (tuple(i + 1 for i in nested or ()), "the nested aux layer ids are right, the top-level ones are wrong"),
        "ids-default": (facts.default_ids, "the draft was trained on the default layers of its trainer"),
        "ids-engine": (facts.engine_ids, "the draft was trained on the engines' default layers"),
    }
    for name, (other, what) in choices.items():
        if other and len(other) == len(ids) and min(other) >= 0 and max(other) < facts.num_layers:
            inputs, outputs = list(other), [i - 1 for i in other]
            fix = f"Write eagle_aux_hidden_state_layer_ids {inputs} at the top level and {outputs} inside eagle_config."
            yield Mistake(name, replace(base, layer_ids=other), f"{what}: {list(ids)} should be {inputs}", fix)


def _states(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    for order in permutations(range(3)):
        names = ", ".join(("first", "second", "third")[i] for i in order)
        what = f"fc expects the aux hidden states in the order {names}"
        fix = "Swap the column blocks of fc.weight so that the lowest layer comes first."
        if len(base.aux_order) == 3:
            yield Mistake(f"aux-order-{''.join(map(str, order))}", replace(base, aux_order=order), what, fix)
    if facts.deepstack_levels:
        other = not base.before_deepstack
        what = f"the draft was trained on aux hidden states {'without' if other else 'with'} DeepStack's additions"
        fix = f"Capture what layers receive, or train on layers from {facts.deepstack_levels + 1} on."
        yield Mistake("deepstack-before", replace(base, before_deepstack=other), what, fix, images=True)
    if facts.mrope_section:
        other = "visual_embeds" if base.image_inputs == "token" else "token"
        names = {"visual_embeds": "the projected visual embeddings (SGLang)", "token": "the pad token's embedding (vLLM)"}
        what = f"at image tokens the draft was trained with {names[other]}"
        fix = "Serve it with the engine that feeds this, or train with image_inputs: mixed."
        yield Mistake(f"{other}-embeddings", replace(base, image_inputs=other), what, fix, images=True)
    what, fix = "the draft was trained on a target in another precision", "Serve the target in the dtype it was trained with."
    yield Mistake("bfloat16-target", replace(base, bfloat16_target=True), what, fix, least=0.1)


def _positions(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    for name, theta in (("theta-target", facts.theta), ("theta-10000", 1e4), ("theta-1000000", 1e6)):
        what = f"the draft was trained with rope_theta {theta:g}, its config.json says {base.theta:g}"
        yield Mistake(name, replace(base, theta=theta), what, f"Write rope_theta {theta:g} into config.json.")
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
            yield Mistake(name, replace(base, positions=positions), what, fix, images=True)
    what, fix = "the draft was trained without moving its position on from guess to guess", "Train again: step k is at i + k."
    yield Mistake("positions-fixed", replace(base, advance=not base.advance), what, fix)
    what = "q_proj and k_proj have their rotary components interleaved (2i and 2i + 1), engines rotate halves (i and i + K/2)"
    fix = "Reorder the rows of each head of q_proj and k_proj: even components first, then odd."
    yield Mistake("rotary-pairs", replace(base, rotary="pairs"), what, fix)


def _norms(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
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
            reading = replace(base, **{flag: other})
            yield Mistake(flag.replace("_", "-"), reading, what, f"Write {flag}: {str(other).lower()} into config.json.")
    what, fix = "the norms' weights are stored minus one (zero-centred)", "Add 1 to the weight of every norm."
    yield Mistake("norm-offset", replace(base, norm_offset=True), what, fix)


def _weights(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    what = "attention's two inputs are swapped: the left half of q, k and v_proj's columns is made for the hidden state"
    fix = "Swap the column halves of q_proj, k_proj and v_proj: the embedding comes first."
    yield Mistake("halves-swapped", replace(base, embedding_first=not base.embedding_first), what, fix)
    what, fix = "gate_proj and up_proj are swapped", "Swap the two tensors."
    yield Mistake("gate-up-swapped", replace(base, gate_first=not base.gate_first), what, fix)
    rows = (draft.shape("midlayer.self_attn.q_proj.weight") or (0, 0))[0]
    kv_rows = (draft.shape("midlayer.self_attn.k_proj.weight") or (0, 0))[0]
    for head_dim in dict.fromkeys((facts.head_dim, 64, 128)):
        if rows and not rows % head_dim and not kv_rows % head_dim and not rows // head_dim % max(kv_rows // head_dim, 1):
            heads, kv_heads = rows // head_dim, kv_rows // head_dim
            what = f"the draft's heads have head_dim {head_dim}, its config.json says {rows // base.heads}"
            fix = f"Write head_dim {head_dim}, num_attention_heads {heads} and num_key_value_heads {kv_heads}."
            yield Mistake(f"head-dim-{head_dim}", replace(base, heads=heads, kv_heads=kv_heads), what, fix)


def _alignment(base: Reading, draft: RawDraft, facts: TargetFacts) -> Iterator[Mistake]:
    for shift, ahead, what in (
        (0, 2, "the draft was trained with embeddings that are not shifted: row i read x_i"),
        (0, 1, "the draft was trained without any shift: row i read x_i and predicts x_{i+1}, which the target already knows"),
        (1, 1, "the draft's labels are not shifted: it repeats the token it is given"),
        (1, 3, "the draft's labels are shifted too far: it predicts the token after the next"),
    ):
        reading = replace(base, shift=shift, ahead=ahead)
        yield Mistake(f"alignment-{shift}-{ahead}", reading, what, _RETRAIN, least=0.3)
