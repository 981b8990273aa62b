"""Examines a draft against its target: first what its files say, then what it does with the target's own answers.

Static checks read config.json and the tensors. Then the target answers some prompts, and the draft is interpreted as its
config.json says and with each known misconfiguration undone. An interpretation that fits the answers better is the diagnosis.
"""

from collections.abc import Sequence

import torch

from vlm_eagle.config import ImageInputs
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.doctor.cases import Case, make_cases
from vlm_eagle.doctor.check_conventions import check_flags, check_layer_ids, check_positions
from vlm_eagle.doctor.check_sizes import check_heads, check_tensors, check_vocabularies, check_widths
from vlm_eagle.doctor.check_values import check_dtype, check_maps, check_values
from vlm_eagle.doctor.findings import Finding
from vlm_eagle.doctor.interpretation import Interpretation, as_written, ids_under
from vlm_eagle.doctor.interpreter import Interpreter
from vlm_eagle.doctor.misconfigurations import known_misconfigurations
from vlm_eagle.doctor.raw_draft import RawDraft
from vlm_eagle.doctor.report import Report
from vlm_eagle.doctor.search import search
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.doctor.verdict import settled
from vlm_eagle.target.target import Target

CHECKS = (
    check_widths, check_heads, check_vocabularies, check_tensors, check_layer_ids, check_positions, check_flags,
    check_values, check_dtype, check_maps,
)  # fmt: skip
_CANNOT_RUN = {
    "config-unreadable", "weights-missing", "weights-unreadable", "fc-width", "tensors-missing", "tensor-shapes",
    "tensor-nan", "tensor-zero", "d2t-size", "t2d-size",
}  # fmt: skip


def examine(draft: RawDraft, facts: TargetFacts) -> list[Finding]:
    """All static checks."""
    if not draft.config:
        return draft.findings
    return draft.findings + [finding for check in CHECKS for finding in check(draft, facts)]


def diagnose(
    target: Target,
    draft: RawDraft,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 64,
    image_inputs: ImageInputs = "token",
) -> Report:
    """Static checks, and what the draft does with the target's own answers to `conversations`.

    Raises:
        UserError: no prompt can be used.
    """
    facts = TargetFacts.of(target.model.config)
    report = Report(examine(draft, facts))
    blockers = {finding.code for finding in report.findings} & _CANNOT_RUN
    if blockers or not joins(draft, facts):
        report.unmeasured = f"the draft cannot be run ({', '.join(sorted(blockers)) or 'its width or heads do not fit'})"
        return report
    written = as_written(draft, facts, image_inputs)
    cases, report.skipped = make_cases(target, conversations, _layers_to_capture(written, draft, facts), max_new_tokens)
    interpreter = Interpreter(
        draft.tensors, target.embed_tokens.weight.float(), target.lm_head_weight.float(), facts.mrope_section
    )
    suspected = {finding.interpretation for finding in report.findings if finding.interpretation}
    found = search(
        interpreter, cases, written, lambda interpretation: known_misconfigurations(interpretation, draft, facts), suspected
    )
    tokens = torch.cat([case.ids[case.prompt :] for case in cases])
    report.search = found
    report.coverage = float(torch.isin(tokens, interpreter.target_ids(found.best)).float().mean())
    report.groups = _groups(cases)
    report.findings = settled(report.findings, found, report.coverage, report.groups, draft)
    return report


def joins(draft: RawDraft, facts: TargetFacts) -> bool:
    """Whether the draft can read the target's embedding, and its attention splits into heads."""
    interpretation = as_written(draft, facts)
    rows, kv_rows = (draft.tensors[f"midlayer.self_attn.{name}_proj.weight"].shape[0] for name in "qk")
    whole = rows % interpretation.heads == 0 and interpretation.heads % interpretation.kv_heads == 0
    return (
        whole
        and rows * interpretation.kv_heads == kv_rows * interpretation.heads
        and len(draft.tensors["fc.weight"]) == facts.hidden_size
    )


def _layers_to_capture(written: Interpretation, draft: RawDraft, facts: TargetFacts) -> set[int]:
    """Every layer that some interpretation reads (`misconfigurations.py`): all lists of ids there are, and their neighbours."""
    nested = [i + 1 for i in ids_under(draft.config.get("eagle_config")) or ()]
    known = [*written.layer_ids, *nested, *facts.engine_ids, *(facts.default_ids or ())]
    return {i + step for i in known for step in (-1, 0, 1)}


def _groups(cases: Sequence[Case]) -> dict[str, list[bool]]:
    """Kinds of prompts, if there are several."""
    images = torch.tensor([case.has_image for case in cases])
    kinds = {"text": (~images).tolist(), "images": images.tolist()}
    return kinds if images.any() and not images.all() else {}
