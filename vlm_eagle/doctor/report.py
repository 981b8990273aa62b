"""The doctor's report, as an object, as JSON for scripts, and as tables for people."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vlm_eagle.doctor.acceptance import GuessCounts
from vlm_eagle.doctor.findings import Finding
from vlm_eagle.doctor.search import Search, Tried

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_ORDER = ("error", "warning", "note")


@dataclass
class Report:
    """Everything found.

    Attributes:
        findings: static ones first.
        search: what measuring found; None when nothing was measured.
        coverage: share of the answers' tokens that are in the draft vocabulary.
        groups: kind of prompt -> which cases are of it.
        skipped: reason -> prompts that could not be used.
        unmeasured: why nothing was measured.
    """

    findings: list[Finding]
    search: Search | None = None
    coverage: float | None = None
    groups: dict[str, list[bool]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unmeasured: str = ""

    @property
    def problems_found(self) -> bool:
        """Whether anything but notes was found."""
        return any(finding.counts for finding in self.findings)

    @property
    def diagnosis(self) -> list[str]:
        """Names of the misconfigurations whose correction brings acceptance back, the most helpful first."""
        return [step.misconfiguration.name for step in self.search.steps] if self.search else []

    def to_json(self) -> dict[str, Any]:
        """For CI."""
        rows: dict[str, Any] = {
            "problems_found": self.problems_found,
            "diagnosis": self.diagnosis,
            "findings": [asdict(finding) for finding in self.findings],
            "unmeasured": self.unmeasured or None,
            "skipped": dict(self.skipped),
        }
        if self.search is None:
            return rows
        found = self.search
        groups = {name: _numbers(found.before.of(chosen).total) for name, chosen in self.groups.items()}
        return rows | {
            "coverage": self.coverage,
            "as_written": _numbers(found.before.total),
            "corrected": _numbers(found.after.total) if found.steps else None,
            "groups": groups,
            "corrections": [_row(step) for step in found.steps],
            "tried": [_row(row) for row in found.tried.values()],
        }

    def __rich__(self) -> Group:
        parts: list[Any] = [self._acceptance(self.search)] if self.search else []
        if self.skipped:
            parts.append(Text(f"Skipped prompts: {', '.join(f'{n} {reason}' for reason, n in self.skipped.items())}."))
        if self.unmeasured:
            parts.append(Text(f"Not measured: {self.unmeasured}.", style="yellow"))
        if self.findings:
            parts.append(self._findings())
        verdict = "Problems found." if self.problems_found else "No problems found."
        if self.search and self.diagnosis:
            before, after = self.search.before.total, self.search.after.total
            verdict += (
                f" Diagnosis: {', then '.join(self.diagnosis)}. Corrected, the first position goes from {before.first:.2f} to "
                f"{after.first:.2f}, the acceptance length from {before.length:.2f} to {after.length:.2f}."
            )
        parts.append(Text(verdict, style="bold red" if self.problems_found else "bold green"))
        return Group(*parts)

    def _acceptance(self, found: Search) -> Table:
        table = Table(title="Acceptance by position, on the target's own answers")
        table.add_column("prompts")
        table.add_column("interpretation")
        for i in range(len(found.before.total.rows)):
            table.add_column(str(i + 1), justify="right")
        table.add_column("length", justify="right")
        interpretations = {"as written": found.before} | ({"corrected": found.after} if found.steps else {})
        for name, measured in interpretations.items():
            table.add_row(f"all {len(measured.cases)}", name, *_cells(measured.total))
            for group, chosen in self.groups.items():
                part = measured.of(chosen)
                table.add_row(f"{group} {len(part.cases)}", name, *_cells(part.total))
        table.caption = f"The draft vocabulary covers {self.coverage:.1%} of the answers' tokens."
        return table

    def _findings(self) -> Table:
        table = Table(title="Findings", show_lines=True)
        for name in ("", "what", "why it matters", "what to do"):
            table.add_column(name, overflow="fold")
        for finding in sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity)):
            measured = f"\n[{finding.measured}]" if finding.measured else ""
            head = Text(f"{finding.severity}\n{finding.code}", style=_COLOURS[finding.severity])
            table.add_row(head, Text(finding.what + measured), Text(finding.why), Text(finding.fix))
        return table


def _cells(acceptance: GuessCounts) -> list[str]:
    return [*(f"{p:.2f}" for p in acceptance.by_position), f"{acceptance.length:.2f}"]


def _numbers(acceptance: GuessCounts) -> dict[str, Any]:
    return {
        "acceptance_length": acceptance.length,
        "by_position": acceptance.by_position,
        "rows": acceptance.rows,
        "confidence": acceptance.confidence,
    }


def _row(row: Tried) -> dict[str, Any]:
    tried = row.misconfiguration
    return {
        "name": tried.name, "what": tried.what, "fix": tried.fix, "first": row.first,
        "acceptance_length": row.length, "nats_per_token": row.gain, "standard_errors": row.errors,
    }  # fmt: skip
