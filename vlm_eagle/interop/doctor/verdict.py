"""From measurements to findings: which static doubts stand, what the best reading means, and whether the draft is well."""

from collections.abc import Sequence

import torch

from vlm_eagle.interop.doctor.findings import Finding, error, warning
from vlm_eagle.interop.doctor.raw_draft import RawDraft
from vlm_eagle.interop.doctor.readings.cases import Case
from vlm_eagle.interop.doctor.readings.reader import Reader
from vlm_eagle.interop.doctor.readings.reading import Reading
from vlm_eagle.interop.doctor.readings.search import PROBE, Tried
from vlm_eagle.interop.doctor.report import Report

_SOME = 0.2  # acceptance at the first position of a draft that has learned something
_TRAIN = "Let this target answer the training prompts, and train on these answers, longer."
_FEW_ROWS = 20  # too few to judge a kind of prompts by


def judge(report: Report, draft: RawDraft) -> None:
    """Completes the report's findings."""
    for finding in report.findings:
        _settle(finding, report)
    named = {finding.reading for finding in report.findings}
    for step in report.search.steps:
        if step.mistake.name not in named:
            report.findings.append(_diagnosis(step))
    report.findings += _coverage(report)
    report.findings += _health(report, draft)


def coverage(reader: Reader, reading: Reading, cases: Sequence[Case]) -> float:
    """Share of the answers' tokens that the draft can say."""
    tokens = torch.cat([case.ids[case.prompt :] for case in cases])
    return float(torch.isin(tokens, reader.target_ids(reading)).float().mean())


def _settle(finding: Finding, report: Report) -> None:
    """Confirms a finding that another reading would explain, or lets a doubtful one go."""
    for step in report.search.steps:
        if finding.reading == step.mistake.name:
            finding.severity, finding.measured = "error", _effect(step)
            return
    row = report.search.tried.get(finding.reading or "")
    if row is None:
        return
    if finding.doubtful and row.gain <= -0.015 and row.errors <= -2:
        finding.severity = "note"
        finding.measured = f"the draft fits better as it is written (otherwise {_numbers(row)})"
    else:
        finding.measured = f"read the other way: {_numbers(row)}"


def _diagnosis(step: Tried) -> Finding:
    what = step.mistake.what[0].upper() + step.mistake.what[1:] + "."
    why = "Read like this, the draft fits the target's own answers clearly better than as it is written."
    return error(step.mistake.name, what, why, step.mistake.fix, reading=step.mistake.name, measured=_effect(step))


def _effect(step: Tried) -> str:
    return f"corrected: {_numbers(step)}"


def _numbers(row: Tried) -> str:
    length = "" if row.length is None else f"acceptance length {row.length:.2f} of at most {PROBE + 1}, "
    return f"first position {row.first:.2f}, {length}{row.gain:+.3f} nats per token"


def _coverage(report: Report) -> list[Finding]:
    share = report.coverage
    if share >= 0.9:
        return []
    what = f"The draft vocabulary covers {share:.0%} of the tokens of the target's own answers."
    why = "At every other token the chain of guesses breaks."
    fix = "Count the draft vocabulary on answers of the kind you serve, or make it larger."
    return [(warning if share >= 0.75 else error)("coverage", what, why, fix)]


def _health(report: Report, draft: RawDraft) -> list[Finding]:
    after = report.search.after
    total = after.total
    if total.is_degraded:
        return [_no_reading_helps(report, draft)]
    found = []
    for name, chosen in report.groups.items():
        group = after.of(chosen).total
        if group.rows[0] >= _FEW_ROWS and group.is_degraded:
            what = f"With {name}, the first guess is accepted in {group.first:.0%} of cases, over all {total.first:.0%}."
            why, fix = "Prompts like these were missing in training.", "Train on prompts of the kind you serve."
            found.append(warning(f"weak-on-{name}", what, why, fix))
    one, two = total.by_position[:2]
    if one >= 0.5 and two / one < 0.5 * one:
        what = f"The first guess is accepted in {one:.0%} of cases, the second after it in {two / one:.0%}."
        why = "The draft was not trained on its own outputs."
        found.append(warning("later-positions", what, why, "Train with ttt_length 7."))
    return found


def _no_reading_helps(report: Report, draft: RawDraft) -> Finding:
    total = report.search.after.total
    helped = "Even after the corrections above" if report.search.steps else "No reading helps"
    what = f"{helped}: acceptance is {total.first:.2f} at the first position, the acceptance length {total.length:.2f}."
    norms = [t for n, t in draft.tensors.items() if "norm" in n and t.ndim == 1]
    if report.coverage < 0.6:
        why = "The draft vocabulary lacks most words of the answers."
        return error("not-learned", what, why, "Repair the vocabulary maps first, then examine again.")
    if all(bool((t == 1).all()) for t in norms):
        why = "All norms are still exactly 1: this head was never trained."
        return error("untrained", what, why, "Give the directory that training wrote, out/draft.")
    if total.first >= _SOME:
        why = "It learned something, but less than a healthy draft, or prompts of another kind than these."
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
