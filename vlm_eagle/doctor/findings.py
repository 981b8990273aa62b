"""What the doctor reports: one finding per fault, with its reason and its remedy."""

from dataclasses import dataclass
from typing import Any, Literal

# an error breaks loading or acceptance, a warning does so in some engine or some case, a note is nothing to worry about
Severity = Literal["error", "warning", "note"]


@dataclass
class Finding:
    """One fault.

    Attributes:
        code: its name, stable over versions, for scripts.
        severity: notes are not problems.
        what: what is wrong, with both numbers.
        why: what it does to serving.
        fix: what to do.
        interpretation: name of the misconfiguration (`misconfigurations.py`) whose interpretation is right if this fault is
            real; measuring it settles doubtful findings.
        doubtful: the draft may have been made like this on purpose; measuring tells.
        measured: what measuring said about it.
    """

    code: str
    severity: Severity
    what: str
    why: str
    fix: str
    interpretation: str | None = None
    doubtful: bool = False
    measured: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is a problem."""
        return self.severity != "note"


def error(code: str, what: str, why: str, fix: str, **more: Any) -> Finding:
    """A finding that breaks loading or acceptance."""
    return Finding(code, "error", what, why, fix, **more)


def warning(code: str, what: str, why: str, fix: str, **more: Any) -> Finding:
    """A finding that hurts in some engine or some case."""
    return Finding(code, "warning", what, why, fix, **more)


def note(code: str, what: str, why: str, fix: str, **more: Any) -> Finding:
    """Something to know."""
    return Finding(code, "note", what, why, fix, **more)
