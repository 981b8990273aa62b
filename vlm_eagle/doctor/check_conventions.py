"""Static checks of what the draft takes from the target: which layers, and how they are turned and normed."""

from collections.abc import Iterator

from vlm_eagle.doctor.findings import Finding, error, note, warning
from vlm_eagle.doctor.interpretation import ids_under, layer_ids, mrope, theta
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.interop.conventions import DEFAULT_ROPE_THETA, inputs_of

_BOTH = "Write input ids v at the top level and v - 1 inside eagle_config."


def check_layer_ids(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """The two conventions, the order, the range, and DeepStack."""
    yield from _check_keys(draft, facts)
    ids = layer_ids(draft.config)
    if ids is None:
        return
    if list(ids) != sorted(set(ids)) or len(ids) != 3:
        what = f"The aux layer ids {list(ids)} are not three ascending numbers."
        why = "vLLM sorts and de-duplicates them, so fc gets the states in another order than it was trained with."
        yield error("layer-ids-order", what, why, "Sort them, and swap the column blocks of fc.weight likewise.")
    if min(ids) < 0 or max(ids) >= facts.num_layers:
        what = f"The aux layer ids {list(ids)} name layers the target does not have (0 to {facts.num_layers - 1})."
        why = "There is nothing to capture there."
        yield error(
            "layer-ids-range", what, why, f"Trainers' default here is {facts.default_ids}.", interpretation="ids-default"
        )
    for step, name, word in ((1, "ids-down", "above"), (-1, "ids-up", "below")):
        if facts.default_ids and ids == tuple(i + step for i in facts.default_ids):
            what = f"The aux layer ids {list(ids)} are each one {word} the default {list(facts.default_ids)}."
            why = "This is what mixing up inputs and outputs of layers looks like."
            yield warning("layer-ids-off-by-one", what, why, _BOTH, interpretation=name, doubtful=True)
    if 0 < min(ids) <= facts.deepstack_levels:
        what = f"Layer {min(ids)} receives visual features from DeepStack (after layers 0 to {facts.deepstack_levels - 1})."
        why = "SGLang before 0.5.20 captures before they are added, vLLM after: one of them feeds what training did not."
        fix = f"Train on layers from {facts.deepstack_levels + 1} on."
        yield warning("layer-ids-deepstack", what, why, fix, interpretation="deepstack-before")


def _check_keys(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """vLLM reads the top-level key as inputs, SGLang the nested one as outputs."""
    top, nested = ids_under(draft.config), ids_under(draft.config.get("eagle_config"))
    default = list(facts.engine_ids)
    if top and nested and inputs_of(nested) != top:
        same = " The two keys hold the same numbers, but count differently." if top == nested else ""
        what = f"vLLM would capture the inputs of layers {list(top)}, SGLang those of {list(inputs_of(nested))}.{same}"
        why = "The top-level key counts inputs of layers, the nested one outputs, which is one less."
        yield error("layer-ids-convention", what, why, _BOTH, interpretation="ids-nested")
    elif not top and not nested:
        what = f"config.json names no aux layers; engines then capture {default}."
        why = "If training took others, acceptance suffers and nothing says so."
        if facts.default_ids != facts.engine_ids:
            yield warning("layer-ids-missing", what, why, _BOTH, interpretation="ids-default", doubtful=True)
    elif not (top and nested) and (top or inputs_of(nested or ())) != facts.engine_ids:
        engine, key = ("SGLang", "nested") if top else ("vLLM", "top-level")
        what = f"The {key} list of aux layer ids is missing; {engine} then captures {default}."
        yield warning("layer-ids-missing", what, "The draft was trained on other layers.", _BOTH)


def check_positions(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """Rotary base, context and position scheme."""
    base, context, settings = theta(draft), draft.number("max_position_embeddings"), mrope(draft)
    why = "The draft's attention turns at other speeds than it was trained with."
    if base is None:
        what = f"config.json has no rope_theta; engines take {DEFAULT_ROPE_THETA:g}, the target's is {facts.theta:g}."
        yield error("rope-theta", what, why, f"Write rope_theta {facts.theta:g}.", interpretation="theta-10000", doubtful=True)
    elif base != facts.theta:
        what = f"rope_theta is {base:g}, the target's is {facts.theta:g}."
        fix = f"Write rope_theta {facts.theta:g}, unless it was really trained with {base:g}."
        yield warning("rope-theta", what, why, fix, interpretation="theta-target", doubtful=True)
    if context != facts.max_positions:
        what = f"max_position_embeddings is {context}, the target's context is {facts.max_positions}."
        why = "vLLM limits or refuses what goes beyond the draft's context; SGLang sizes its rotary table by it."
        yield warning("max-positions", what, why, f"Write max_position_embeddings {facts.max_positions}.")
    if settings is None:
        scaling = draft.config.get("rope_scaling")
        if scaling and (not isinstance(scaling, dict) or scaling.get("rope_type", scaling.get("type")) != "default"):
            what = f"config.json sets rope_scaling {scaling}."
            yield warning("rope-scaling", what, why, "Write rope_scaling null, unless the draft was trained with it.")
    elif facts.mrope_section is None:
        what = f"config.json sets M-RoPE {settings}, but the target has 1-D positions."
        why = "SGLang gives a draft 3-D positions when it asks for them."
        yield error("mrope", what, why, "Write rope_scaling null.", interpretation="positions-1d")
    elif tuple(settings["mrope_section"]) != facts.mrope_section:
        what = f"mrope_section is {settings['mrope_section']}, the target's is {list(facts.mrope_section)}."
        yield error("mrope", what, why, f"Write mrope_section {list(facts.mrope_section)}.")
    else:
        what, why = (
            "The draft asks for M-RoPE positions.",
            "SGLang gives them; vLLM's model runner V2 gives the sequence index.",
        )
        yield note("mrope", what, why, "Measure it in the engine you serve with.")


def check_flags(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """Switches whose wrong value nothing refuses."""
    if draft.flag("tie_word_embeddings"):
        what, why = "tie_word_embeddings is true.", "SGLang then takes the target's embedding for the head and drops lm_head."
        yield error("tie-word-embeddings", what, why, "Write tie_word_embeddings false.")
    norms = [f"fc_norm.{i}.weight" in draft.tensors for i in range(3)]
    for flag, there in (("fc_norm", all(norms)), ("norm_before_fc", "input_norm.weight" in draft.tensors)):
        code = flag.replace("_", "-")
        if draft.flag(flag) and not there and draft.tensors:
            what, why = f"{flag} is set, but its tensors are missing.", "Engines norm with random or unit weights."
            yield error(code, what, why, f"Write {flag} false, or export the tensors.")
        elif there and not draft.flag(flag):
            what, why = f"The tensors of {flag} are there, but it is not set.", "Engines leave the norm out."
            yield error(code, what, why, f"Write {flag} true.", interpretation=code, doubtful=True)
    if any(norms) and not all(norms):
        what, why = f"Only {sum(norms)} of three fc_norm tensors are there.", "There is one for each aux hidden state."
        yield error("fc-norm", what, why, "Export all three.")
    if draft.flag("norm_before_residual"):
        what, why = "norm_before_residual is true.", "Only vLLM knows it; SGLang computes the head without."
        fix = "Write norm_before_residual false, unless it was trained like this: then serve with vLLM."
        yield warning("norm-before-residual", what, why, fix, interpretation="norm-before-residual")
    if draft.flag("attention_bias") and "midlayer.self_attn.q_proj.bias" not in draft.tensors and draft.tensors:
        what, why = "attention_bias is set, but there are no biases.", "Engines add random or zero ones."
        yield error("attention-bias", what, why, "Write attention_bias false.")
    eps = draft.number("rms_norm_eps")
    if eps is not None and not 0 < eps < 1e-3:
        what, why = f"rms_norm_eps is {eps:g}, the target's is {facts.eps:g}.", "It is added to the mean square of every state."
        yield error("rms-norm-eps", what, why, f"Write rms_norm_eps {facts.eps:g}.")
    if draft.config.get("hidden_act", "silu") != "silu":
        what, why = f"hidden_act is {draft.config['hidden_act']!r}.", "EAGLE-3 heads are SwiGLU."
        yield error("hidden-act", what, why, 'Write hidden_act "silu".')
