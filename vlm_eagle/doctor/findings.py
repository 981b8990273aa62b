"""What the doctor reports: one finding per fault, with its reason and its remedy."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

# an error breaks loading or acceptance, a warning does so in some engine or some case, a note is nothing to worry about
Severity = Literal["error", "warning", "note"]


@dataclass
class Finding:
    """One fault, or one fact worth knowing.

    Attributes:
        code: its name, stable over versions, for scripts.
        what: what is wrong, with both numbers.
        why: what it does to serving.
        fix: what to do.
        severity: notes are not problems.
        interpretation: name of the misconfiguration (`misconfigurations.py`) whose interpretation is right if this fault is
            real; measuring it settles doubtful findings.
        doubtful: the draft may have been made like this on purpose; measuring tells.
        measured: what measuring said about it.
    """

    code: str
    what: str
    why: str
    fix: str
    severity: Severity
    interpretation: str | None = None
    doubtful: bool = False
    measured: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is a problem."""
        return self.severity != "note"


error = partial(Finding, severity="error")
warning = partial(Finding, severity="warning")
note = partial(Finding, severity="note")
