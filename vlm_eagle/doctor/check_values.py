"""Static checks of what tensors hold: numbers, types, and the vocabulary maps."""

from collections.abc import Iterator

import torch

from vlm_eagle.doctor.findings import Finding, error, warning
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.target_facts import TargetFacts

_MAPS = ("d2t", "t2d")
_ARCHITECTURES = ("LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM", "Eagle3Qwen3ForCausalLM", "Eagle3Speculator")


def check_values(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """NaN, infinite and all-zero tensors."""
    floats = {n: t.float() for n, t in draft.tensors.items() if t.is_floating_point()}
    for code, word, bad in (
        ("nan", "not finite (NaN or infinite)", lambda t: not bool(t.isfinite().all())),
        ("zero", "all zero", lambda t: not bool(t.any())),
    ):
        names = [name for name, tensor in floats.items() if bad(tensor)]
        if names:
            why = "One NaN makes every prediction NaN." if code == "nan" else "What was trained was lost on the way."
            fix = "Export again from an earlier checkpoint; if that has it too, training diverged."
            yield error(f"tensor-{code}", f"{', '.join(sorted(names))}: values are {word}.", why, fix)


def check_dtype(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """The stated dtype against that of the tensors; the types of the maps; the architecture's name."""
    stated = draft.config.get("torch_dtype") or draft.config.get("dtype")
    floats = {str(t.dtype).removeprefix("torch.") for n, t in draft.tensors.items() if n not in _MAPS}
    if floats and (len(floats) > 1 or stated != next(iter(floats))):
        what = f"config.json says {stated}, the tensors are {' and '.join(sorted(floats))}."
        why = "Engines cast to what config.json says: float16 overflows where bfloat16 does not."
        yield warning("dtype", what, why, f"Write torch_dtype {sorted(floats)[0]!r}.")
    d2t = draft.tensors.get("d2t")
    if d2t is not None and d2t.is_floating_point():
        what, why = f"d2t is {d2t.dtype}.", "Token ids beyond 256 are rounded in bfloat16."
        yield error("d2t-dtype", what, why, "Export it as int64.")
    names = draft.config.get("architectures")
    if draft.config and (not isinstance(names, list) or not names or names[0] not in _ARCHITECTURES):
        what, why = f"architectures is {names}.", "Engines choose the model class by this name."
        yield error("architecture", what, why, 'Write architectures ["LlamaForCausalLMEagle3"].')


def check_maps(draft: RawDraft, facts: TargetFacts) -> Iterator[Finding]:
    """d2t holds offsets whose targets are the true entries of t2d, in ascending order."""
    d2t, t2d = draft.tensors.get("d2t"), draft.tensors.get("t2d")
    if d2t is None or d2t.ndim != 1 or d2t.is_floating_point():
        return
    why = "Engines compute target_id = draft_id + d2t[draft_id]: every proposed word would be another."
    fix = "Write d2t as the true entries of t2d in ascending order, minus 0, 1, 2, ..."
    ids = d2t.long() + torch.arange(len(d2t))
    listed = t2d.bool().nonzero().flatten() if t2d is not None and t2d.ndim == 1 else None
    if listed is not None and len(listed) == len(d2t):
        if torch.equal(d2t.long(), listed) and not torch.equal(ids, listed):
            what = "d2t holds absolute token ids, not offsets."
            yield error("d2t-absolute", what, why, fix, interpretation="d2t-absolute")
        elif not torch.equal(ids.sort().values, listed):
            wrong = int((ids != listed).sum())
            what = f"d2t and t2d disagree about {wrong} of {len(d2t)} draft tokens."
            yield error("d2t-t2d", what, why, fix, interpretation="d2t-from-t2d")
    elif listed is not None:
        what = f"t2d is true for {len(listed)} tokens, d2t has {len(d2t)} entries."
        yield error("d2t-t2d", what, "Both must describe the same draft vocabulary.", fix)
    if bool((ids < 0).any()) or bool((ids >= facts.vocab_size).any()):
        if listed is None and bool((d2t >= 0).all()) and bool((d2t < facts.vocab_size).all()):
            what = "d2t holds absolute token ids, not offsets: read as offsets it leads beyond the target's vocabulary."
            yield error("d2t-absolute", what, why, fix, interpretation="d2t-absolute")
        elif listed is None:
            what = f"d2t leads to token ids outside 0 to {facts.vocab_size - 1}."
            yield error("d2t-range", what, why, "Export it from the training checkpoint.")
