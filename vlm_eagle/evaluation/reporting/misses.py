"""The tokens that a draft most often fails to propose."""

from collections import Counter
from dataclasses import dataclass

from vlm_eagle.evaluation.reporting.inputs import is_shown
from vlm_eagle.evaluation.result_schema import AcceptanceResult

CONTEXT = 5  # tokens shown before a missed one


@dataclass(frozen=True)
class Miss:
    """A token that the target had to write because the draft proposed another.

    Attributes:
        piece: its text.
        missed: how often.
        share: of the times it was due while the draft was still on the path.
        before: the text before one such place.
    """

    piece: str
    missed: int
    share: float
    before: str


def misses(setting: AcceptanceResult, most: int = 12) -> list[Miss]:
    """The tokens missed most. A bonus token after a fully accepted path is not a miss: nothing was proposed for it."""
    missed: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    before: dict[str, str] = {}
    for turn in (turn for benchmark in setting.benchmarks for turn in benchmark.prompts if is_shown(turn)):
        at, pieces = 1, turn.pieces or []
        for committed, kept in zip(turn.committed or (), turn.accepted or (), strict=True):
            accepted.update(pieces[at : at + kept])
            if committed > kept and (setting.num_steps is None or kept < setting.num_steps):
                piece = pieces[at + kept]
                missed[piece] += 1
                before.setdefault(piece, "".join(pieces[max(at + kept - CONTEXT, 0) : at + kept]))
            at += committed
    return [Miss(p, n, n / (n + accepted[p]), before[p]) for p, n in missed.most_common(most) if p]
