"""Looks for the reading of a draft that fits the target's answers best: the usual mistakes, one after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vlm_eagle.interop.doctor.readings.acceptance import Measured
from vlm_eagle.interop.doctor.readings.cases import Case
from vlm_eagle.interop.doctor.readings.mistakes import Mistake
from vlm_eagle.interop.doctor.readings.reader import Reader
from vlm_eagle.interop.doctor.readings.reading import Reading

STEPS, PROBE = 7, 3  # guesses in a row: for what is reported, and for comparing readings
_EVERY, _HOPELESS = 4, -0.03  # a reading this much worse on the first guesses of every fourth prompt is not looked at further
_HELPED = 0.3  # acceptance length that corrections of an ill draft must bring, or they explain nothing
_ROUNDS = 3  # mistakes that may have been made together
_ERRORS, _SUSPECTED = 2.5, 1.5  # standard errors that a better reading needs, unless and if a static check suspects it


@dataclass
class Tried:
    """One mistake, measured against the reading that was best before it.

    Attributes:
        gain: nats per token by which it is better.
        errors: the same in standard errors over prompts.
        first: acceptance at the first position.
        length: acceptance length of a chain of `PROBE` guesses; None if some first guesses were enough to dismiss it.
    """

    mistake: Mistake
    measured: Measured
    gain: float
    errors: float
    first: float
    length: float | None


@dataclass
class Search:
    """What the search found.

    Attributes:
        written: the reading that config.json states, and `best` the one that fits best.
        steps: the mistakes on the way from one to the other; empty if config.json is right.
        tried: everything else, measured against `best`.
        before: `written` on all cases, `after`: `best`.
    """

    written: Reading
    best: Reading
    before: Measured
    after: Measured
    steps: list[Tried] = field(default_factory=list)
    tried: dict[str, Tried] = field(default_factory=dict)


def search(
    reader: Reader,
    cases: Sequence[Case],
    written: Reading,
    mistakes_of: Callable[[Reading], list[Mistake]],
    suspected: set[str],
) -> Search:
    """Goes from reading to better reading, at most three times. A reading is better if it makes the target's tokens clearly
    more probable and its guesses are accepted no less often; names in `suspected` need less evidence."""
    images = [case.has_image for case in cases]
    current, steps, rounds, visited = written, [], [], {written}
    probe = measure(reader, cases, current, PROBE)
    while True:
        tried, glance = {}, measure(reader, cases[::_EVERY], current, 1)
        for mistake in mistakes_of(current):
            if mistake.reading in visited or (mistake.images and not any(images)):
                continue
            row = None
            if not mistake.images and mistake.name not in suspected:
                row = _glance(reader, cases[::_EVERY], mistake, glance)
            tried[mistake.name] = row or _try(reader, cases, mistake, probe, images)
        rounds.append(tried)
        better = [row for row in tried.values() if _is_better(row, probe, images, row.mistake.name in suspected)]
        if not better or len(steps) == _ROUNDS:
            break
        most = max(row.gain for row in better)
        close = [row for row in better if row.gain >= 0.95 * most]  # equal readings: the suspected one is named
        chosen = max(close, key=lambda row: (row.mistake.name in suspected, row.gain))
        steps.append(chosen)
        current, probe = chosen.mistake.reading, chosen.measured
        visited.add(current)
    before = measure(reader, cases, written, STEPS)
    after = measure(reader, cases, current, STEPS) if steps else before
    if after.total.is_degraded and after.total.length < before.total.length + _HELPED:
        return Search(written, written, before, before, [], rounds[0])
    return Search(written, current, before, after, steps, tried)


def measure(reader: Reader, cases: Sequence[Case], reading: Reading, steps: int) -> Measured:
    """One reading on all cases."""
    return Measured([reader(reading, case, steps) for case in cases])


def _glance(reader: Reader, cases: Sequence[Case], mistake: Mistake, best: Measured) -> Tried | None:
    """The first guesses alone, on some prompts; None if they do not dismiss the mistake."""
    measured = measure(reader, cases, mistake.reading, 1)
    gain, errors = measured.gain_over(best)
    return Tried(mistake, measured, gain, errors, measured.total.first, None) if gain < _HOPELESS else None


def _try(reader: Reader, cases: Sequence[Case], mistake: Mistake, best: Measured, images: list[bool]) -> Tried:
    measured = measure(reader, cases, mistake.reading, PROBE)
    ours, theirs = (measured.of(images), best.of(images)) if mistake.images else (measured, best)
    gain, errors = ours.gain_over(theirs)
    return Tried(mistake, measured, gain, errors, measured.total.first, measured.total.length)


def _is_better(row: Tried, best: Measured, images: list[bool], suspected: bool) -> bool:
    ours, theirs = (row.measured.of(images), best.of(images)) if row.mistake.images else (row.measured, best)
    if row.length is None or ours.total.length < theirs.total.length - 0.02:
        return False
    least, errors = (0.005, _SUSPECTED) if suspected else (row.mistake.least, _ERRORS)
    return row.gain >= least and row.errors >= errors
