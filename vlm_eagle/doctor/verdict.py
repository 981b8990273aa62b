"""From measurements to findings: which doubtful findings stand, and what the best interpretation means."""

from collections.abc import Iterator

from vlm_eagle.doctor.findings import Finding, error, warning
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.search import PROBE, Search, Tried

_SOME = 0.2  # acceptance at the first position of a draft that has learned something
_TRAIN = "Let this target answer the training prompts, and train on these answers, longer."
_FEW_ROWS = 20  # too few to judge a kind of prompts by


def settled(
    findings: list[Finding], search: Search, share: float, groups: dict[str, list[bool]], draft: RawDraft
) -> list[Finding]:
    """The static findings, confirmed or let go by measurements, and what measuring found besides.

    Args:
        findings: the static ones; their severity may change.
        search: what measuring found.
        share: of the answers' tokens that are in the draft vocabulary.
        groups: kind of prompt -> which cases are of it.
        draft: the draft.
    """
    for finding in findings:
        _settle(finding, search)
    named = {finding.interpretation for finding in findings}
    diagnoses = [_diagnosis(step) for step in search.steps if step.misconfiguration.name not in named]
    degraded = search.after.total.is_degraded
    remaining = [_unexplained(search, share, draft)] if degraded else [*_weak_groups(search, groups), *_weak_positions(search)]
    return [*findings, *diagnoses, *_coverage(share), *remaining]


def _settle(finding: Finding, search: Search) -> None:
    """Confirms a finding that another interpretation would explain, or lets a doubtful one go."""
    for step in search.steps:
        if finding.interpretation == step.misconfiguration.name:
            finding.severity, finding.measured = "error", _effect(step)
            return
    row = search.tried.get(finding.interpretation or "")
    if row is None:
        return
    if finding.doubtful and row.gain <= -0.015 and row.errors <= -2:
        finding.severity = "note"
        finding.measured = f"the draft fits better as it is written (otherwise {_numbers(row)})"
    else:
        finding.measured = f"read the other way: {_numbers(row)}"


def _diagnosis(step: Tried) -> Finding:
    what = step.misconfiguration.what[0].upper() + step.misconfiguration.what[1:] + "."
    why = "Read like this, the draft fits the target's own answers clearly better than as it is written."
    return error(
        step.misconfiguration.name,
        what,
        why,
        step.misconfiguration.fix,
        interpretation=step.misconfiguration.name,
        measured=_effect(step),
    )


def _effect(step: Tried) -> str:
    return f"corrected: {_numbers(step)}"


def _numbers(row: Tried) -> str:
    length = "" if row.length is None else f"acceptance length {row.length:.2f} of at most {PROBE + 1}, "
    return f"first position {row.first:.2f}, {length}{row.gain:+.3f} nats per token"


def _coverage(share: float) -> list[Finding]:
    if share >= 0.9:
        return []
    what = f"The draft vocabulary covers {share:.0%} of the tokens of the target's own answers."
    why = "At every other token the chain of guesses breaks."
    fix = "Count the draft vocabulary on answers of the kind you serve, or make it larger."
    return [(warning if share >= 0.75 else error)("coverage", what, why, fix)]


def _weak_groups(search: Search, groups: dict[str, list[bool]]) -> Iterator[Finding]:
    total = search.after.total
    for name, chosen in groups.items():
        group = search.after.of(chosen).total
        if group.rows[0] >= _FEW_ROWS and group.is_degraded:
            what = f"With {name}, the first guess is accepted in {group.first:.0%} of cases, over all {total.first:.0%}."
            why, fix = "Prompts like these were missing in training.", "Train on prompts of the kind you serve."
            yield warning(f"weak-on-{name}", what, why, fix)


def _weak_positions(search: Search) -> Iterator[Finding]:
    one, two = search.after.total.by_position[:2]
    if one >= 0.5 and two / one < 0.5 * one:
        what = f"The first guess is accepted in {one:.0%} of cases, the second after it in {two / one:.0%}."
        why = "The draft was not trained on its own outputs."
        yield warning("later-positions", what, why, "Train with ttt_length 7.")


def _unexplained(search: Search, share: float, draft: RawDraft) -> Finding:
    total = search.after.total
    helped = "Even after the corrections above" if search.steps else "No interpretation helps"
    what = f"{helped}: acceptance is {total.first:.2f} at the first position, the acceptance length {total.length:.2f}."
    norms = [t for n, t in draft.tensors.items() if "norm" in n and t.ndim == 1]
    if share < 0.6:
        why = "The draft vocabulary lacks most words of the answers."
        return error("not-learned", what, why, "Repair the vocabulary maps first, then examine again.")
    if all(bool((t == 1).all()) for t in norms):
        why = "All norms are still exactly 1: this head was never trained."
        return error("untrained", what, why, "Give the directory that training wrote, out/draft.")
    if total.first >= _SOME:
        why = "It learned something, but less than a well-trained draft does, or prompts of another kind than these."
        fix = f"Examine it on prompts of the kind it serves (--prompts). {_TRAIN}"
        return warning("weak", what, why, fix)
    if total.confidence >= 0.5:
        why = (
            f"The draft is sure of its guesses ({total.confidence:.2f} on average) and wrong: it learned other answers than "
            "this target's, from another target, another chat template or data that others wrote."
        )
        return error("other-answers", what, why, f"{_TRAIN} Other prompts: --prompts.")
    why = "The draft is unsure and mostly wrong: it did not learn this target's answers."
    return error("not-learned", what, why, f"{_TRAIN} Other prompts: --prompts.")
