"""Static checks of sizes: configuration against target, and tensors against both."""

from collections.abc import Iterator

from vlm_eagle.doctor.findings import Finding, error, warning
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.target_facts import TargetFacts

_ATTENTION, _MLP = "midlayer.self_attn.", "midlayer.mlp."
_LOADS = "Engines size the head by config.json: they refuse these tensors or serve garbage."


def check_widths(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """hidden_size and target_hidden_size against the target, the fusion layer against both."""
    hidden, theirs = draft.number("hidden_size"), draft.number("target_hidden_size")
    own_table = "embed_tokens.weight" in draft.tensors
    if hidden is None:
        yield error("hidden-size", "config.json has no hidden_size.", _LOADS, "Write the number of rows of fc.weight.")
    elif hidden != facts.hidden_size and not own_table:
        what = f"hidden_size is {hidden}, the target's is {facts.hidden_size}."
        why = "The draft reads the target's embedding, so the widths must agree."
        yield error("hidden-size", what, why, "Give the target this draft was trained for, or correct config.json.")
    if theirs is not None and theirs != facts.hidden_size:
        what = f"target_hidden_size is {theirs}, the target's hidden size is {facts.hidden_size}."
        why = "fc is sized by it: three aux hidden states of the target go in."
        yield error("target-hidden-size", what, why, f"Write target_hidden_size {facts.hidden_size}, if fc.weight agrees.")
    fc = draft.shape("fc.weight")
    if fc and fc[1] != 3 * facts.hidden_size:
        what = f"fc.weight has {fc[1]} columns, three states of the target have {3 * facts.hidden_size}."
        why = "The fusion layer takes three hidden states of exactly this target."
        yield error("fc-width", what, why, "The draft belongs to another target: give that one, or train a draft for this one.")
    if fc and hidden is not None and fc[0] != hidden:
        what = f"fc.weight has {fc[0]} rows, hidden_size is {hidden}."
        yield error("hidden-size-tensors", what, _LOADS, f"Write hidden_size {fc[0]}.")


def check_heads(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """head_dim times heads against q_proj and k_proj, and head_dim against the target's."""
    head_dim, heads, kv_heads = (draft.number(k) for k in ("head_dim", "num_attention_heads", "num_key_value_heads"))
    if head_dim is None:
        hidden = draft.number("hidden_size")
        guess = hidden / heads if hidden and heads else None
        rows = (draft.shape(f"{_ATTENTION}q_proj.weight") or (None,))[0]
        if guess is None or not heads or heads * guess != rows or guess != facts.head_dim:
            what = f"config.json has no head_dim; engines take hidden_size / heads = {guess}."
            why = f"The target's heads have {facts.head_dim} components, and q_proj has {rows} rows."
            yield error("head-dim", what, why, f"Write head_dim {facts.head_dim}.")
        return
    for name, count, key in (("q_proj", heads, "num_attention_heads"), ("k_proj", kv_heads, "num_key_value_heads")):
        shape = draft.shape(f"{_ATTENTION}{name}.weight")
        if count is None:
            yield error("heads", f"config.json has no {key}.", _LOADS, "Write the number of heads.")
        elif shape and shape[0] != count * head_dim:
            what = f"{name} has {shape[0]} rows, {key} {count} times head_dim {head_dim} is {count * head_dim}."
            yield error("head-dim-tensors", what, _LOADS, f"Correct head_dim (the target's is {facts.head_dim}) or {key}.")
    if heads and kv_heads and heads % kv_heads:
        what = f"{heads} heads cannot share {kv_heads} key-value heads evenly."
        yield error("heads", what, "Grouped-query attention needs a whole ratio.", "Correct num_key_value_heads.")
    if head_dim != facts.head_dim:
        what = f"head_dim is {head_dim}, the target's is {facts.head_dim}."
        why = "With another split into heads the same tensors compute something else, without any error."
        fix = f"Write head_dim {facts.head_dim} and the matching numbers of heads, if it was trained like that."
        yield warning("head-dim", what, why, fix, interpretation=f"head-dim-{facts.head_dim}", doubtful=True)


def check_vocabularies(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """vocab_size and draft_vocab_size against the target and the tensors."""
    vocab, own = draft.number("vocab_size"), draft.number("draft_vocab_size")
    head, d2t, t2d = draft.shape("lm_head.weight"), draft.shape("d2t", 1), draft.shape("t2d", 1)
    if vocab is not None and vocab != facts.vocab_size:
        what = f"vocab_size is {vocab}, the target's is {facts.vocab_size}."
        why = "Token ids of the two models mean different words, or the table has another size."
        yield error("vocab-size", what, why, f"Write vocab_size {facts.vocab_size}, or give the target it was trained for.")
    if own is None and "speculators_model_type" not in draft.config:
        rows = head[0] if head else "the number of rows of lm_head"
        yield error("draft-vocab-size", "config.json has no draft_vocab_size.", _LOADS, f"Write draft_vocab_size {rows}.")
    elif own is not None and head and head[0] != own:
        what = f"lm_head has {head[0]} rows, draft_vocab_size is {own}."
        yield error("draft-vocab-size", what, _LOADS, f"Write draft_vocab_size {head[0]}.")
    if head and d2t and d2t[0] != head[0]:
        what = f"d2t has {d2t[0]} entries, lm_head has {head[0]} rows."
        yield error("d2t-size", what, "Every draft token needs its target token.", "Export both from the same checkpoint.")
    if t2d and t2d[0] != facts.vocab_size:
        what = f"t2d has {t2d[0]} entries, the target has {facts.vocab_size} tokens."
        yield error("t2d-size", what, "It marks every target token that the draft can propose.", "Rebuild it from d2t.")
    if head and head[0] < facts.vocab_size and not d2t:
        what = f"lm_head has {head[0]} rows for {facts.vocab_size} tokens, and there is no d2t."
        why = "Without the map the draft's words are taken for the first token ids."
        yield error("d2t-missing", what, why, "Export d2t and t2d with the weights.", interpretation="d2t-from-t2d")


def check_tensors(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """Names and remaining shapes."""
    if not draft.tensors:
        return
    shapes = _expected(draft)
    missing = sorted(name for name in shapes if name not in draft.tensors)
    if missing:
        what = f"Missing tensors: {', '.join(missing)}."
        why = "Engines leave what is missing at random values or refuse to load."
        yield error("tensors-missing", what, why, "Export again from the training checkpoint.")
    wrong = [f"{n} {tuple(draft.tensors[n].shape)} instead of {s}" for n, s in shapes.items() if not _fits(draft, n, s)]
    if wrong:
        what = f"Wrong shapes: {', '.join(wrong)}."
        yield error("tensor-shapes", what, _LOADS, "Export again from the training checkpoint.")
    known = set(shapes) | {"d2t", "t2d", "embed_tokens.weight", "input_norm.weight"}
    known |= {f"fc_norm.{i}.weight" for i in range(3)} | {f"{_ATTENTION}{x}_norm.weight" for x in "qk"}
    unknown = sorted(name for name in draft.tensors if name not in known and not name.endswith("_proj.bias"))
    if unknown:
        what = f"Unknown tensors: {', '.join(unknown[:8])}{' and more' if len(unknown) > 8 else ''}."
        why = "SGLang skips them without a word, vLLM stops: either way they were meant for something."
        yield warning("tensors-unknown", what, why, "Bring it into the native layout with vlm-eagle import.")
    layers = draft.number("num_hidden_layers")
    if layers is not None and layers != 1:
        what, why = f"num_hidden_layers is {layers:g}.", "An EAGLE-3 head has one layer; vLLM numbers its layers by this."
        yield error("num-hidden-layers", what, why, "Write num_hidden_layers 1.")


def _fits(draft: RawDraft, name: str, shape: tuple[int | None, ...]) -> bool:
    if name not in draft.tensors:
        return True
    found = draft.tensors[name].shape
    return len(found) == len(shape) and all(want in (None, have) for have, want in zip(found, shape, strict=True))


def _expected(draft: RawDraft) -> dict[str, tuple[int | None, ...]]:
    """The native layout as the tensors themselves size it: width by fc, attention by q_proj, the MLP by gate_proj."""

    def rows(name: str) -> int | None:
        return (draft.shape(name) or (None,))[0]

    d, q, kv = rows("fc.weight"), rows(f"{_ATTENTION}q_proj.weight"), rows(f"{_ATTENTION}k_proj.weight")
    i, twice = rows(f"{_MLP}gate_proj.weight"), 2 * d if d else None
    norms = ("midlayer.hidden_norm", "midlayer.input_layernorm", "midlayer.post_attention_layernorm", "norm")
    return {
        "fc.weight": (None, None), "lm_head.weight": (None, d), **{f"{name}.weight": (d,) for name in norms},
        f"{_ATTENTION}q_proj.weight": (None, twice), f"{_ATTENTION}k_proj.weight": (None, twice),
        f"{_ATTENTION}v_proj.weight": (kv, twice), f"{_ATTENTION}o_proj.weight": (d, q),
        f"{_MLP}gate_proj.weight": (None, d), f"{_MLP}up_proj.weight": (i, d), f"{_MLP}down_proj.weight": (d, i),
    }  # fmt: skip
