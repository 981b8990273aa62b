"""Searches for the interpretation of a draft that fits the target's answers best, one misconfiguration after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vlm_eagle.doctor.acceptance import Measured
from vlm_eagle.doctor.cases import Case
from vlm_eagle.doctor.interpretation import Interpretation
from vlm_eagle.doctor.interpreter import Interpreter
from vlm_eagle.doctor.misconfigurations import Misconfiguration

STEPS, PROBE = 7, 3  # guesses in a row: for what is reported, and for comparing interpretations
_EVERY, _HOPELESS = 4, -0.03  # drop an interpretation this much worse on every fourth prompt
_HELPED = 0.3  # acceptance length that corrections of a degraded draft must bring, or they explain nothing
_ROUNDS = 3  # misconfigurations that may have been made together
_ERRORS, _SUSPECTED = 2.5, 1.5  # standard errors needed: normally, and if a static check suspects it


@dataclass
class Tried:
    """One misconfiguration, measured against the interpretation that was best before it.

    Attributes:
        gain: nats per token by which it is better.
        errors: the same in standard errors over prompts.
        first: acceptance at the first position.
        length: acceptance length of a chain of `PROBE` guesses; None if some first guesses were enough to dismiss it.
    """

    misconfiguration: Misconfiguration
    measured: Measured
    gain: float
    errors: float
    first: float
    length: float | None


@dataclass
class Search:
    """What the search found.

    Attributes:
        written: the interpretation that config.json states, and `best` the one that fits best.
        steps: the misconfigurations on the way from one to the other; empty if config.json is right.
        tried: everything else, measured against `best`.
        before: `written` on all cases, `after`: `best`.
    """

    written: Interpretation
    best: Interpretation
    before: Measured
    after: Measured
    steps: list[Tried] = field(default_factory=list)
    tried: dict[str, Tried] = field(default_factory=dict)


def search(
    interpreter: Interpreter,
    cases: Sequence[Case],
    written: Interpretation,
    alternatives_to: Callable[[Interpretation], list[Misconfiguration]],
    suspected: set[str],
) -> Search:
    """Moves to a better interpretation at most three times. Better means that the target's tokens are clearly more probable and
    guesses are accepted no less often; names in `suspected` need less evidence."""
    images = [case.has_image for case in cases]
    current, steps, rounds, visited = written, [], [], {written}
    probe = measure(interpreter, cases, current, PROBE)
    while True:
        tried, glance = {}, measure(interpreter, cases[::_EVERY], current, 1)
        for misconfiguration in alternatives_to(current):
            if misconfiguration.interpretation in visited or (misconfiguration.images and not any(images)):
                continue
            row = None
            if not misconfiguration.images and misconfiguration.name not in suspected:
                row = _glance(interpreter, cases[::_EVERY], misconfiguration, glance)
            tried[misconfiguration.name] = row or _try(interpreter, cases, misconfiguration, probe, images)
        rounds.append(tried)
        better = [row for row in tried.values() if _is_better(row, probe, images, row.misconfiguration.name in suspected)]
        if not better or len(steps) == _ROUNDS:
            break
        most = max(row.gain for row in better)
        close = [row for row in better if row.gain >= 0.95 * most]  # equal interpretations: the suspected one is named
        chosen = max(close, key=lambda row: (row.misconfiguration.name in suspected, row.gain))
        steps.append(chosen)
        current, probe = chosen.misconfiguration.interpretation, chosen.measured
        visited.add(current)
    before = measure(interpreter, cases, written, STEPS)
    after = measure(interpreter, cases, current, STEPS) if steps else before
    if after.total.is_degraded and after.total.length < before.total.length + _HELPED:
        return Search(written, written, before, before, [], rounds[0])
    return Search(written, current, before, after, steps, tried)


def measure(interpreter: Interpreter, cases: Sequence[Case], interpretation: Interpretation, steps: int) -> Measured:
    """One interpretation on all cases."""
    return Measured([interpreter(interpretation, case, steps) for case in cases])


def _glance(
    interpreter: Interpreter, cases: Sequence[Case], misconfiguration: Misconfiguration, best: Measured
) -> Tried | None:
    """The first guesses alone, on some prompts; None if they do not dismiss the misconfiguration."""
    measured = measure(interpreter, cases, misconfiguration.interpretation, 1)
    gain, errors = measured.gain_over(best)
    return Tried(misconfiguration, measured, gain, errors, measured.total.first, None) if gain < _HOPELESS else None


def _try(
    interpreter: Interpreter, cases: Sequence[Case], misconfiguration: Misconfiguration, best: Measured, images: list[bool]
) -> Tried:
    measured = measure(interpreter, cases, misconfiguration.interpretation, PROBE)
    ours, theirs = (measured.of(images), best.of(images)) if misconfiguration.images else (measured, best)
    gain, errors = ours.gain_over(theirs)
    return Tried(misconfiguration, measured, gain, errors, measured.total.first, measured.total.length)


def _is_better(row: Tried, best: Measured, images: list[bool], suspected: bool) -> bool:
    ours, theirs = (row.measured.of(images), best.of(images)) if row.misconfiguration.images else (row.measured, best)
    if row.length is None or ours.total.length < theirs.total.length - 0.02:
        return False
    least, errors = (0.005, _SUSPECTED) if suspected else (row.misconfiguration.least, _ERRORS)
    return row.gain >= least and row.errors >= errors
