"""Where a draft loses: acceptance by kind of prompt, and the tokens it most often fails to propose."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlm_eagle.evaluation.reporting.bootstrap import tau_interval
from vlm_eagle.evaluation.reporting.charts import Point
from vlm_eagle.evaluation.reporting.records import Answer, Setting

CONTEXT = 5  # tokens shown before a missed one


@dataclass(frozen=True)
class Breakdown:
    """One kind of prompt: its name, and a point per setting."""

    name: str
    prompts: int
    points: tuple[Point | None, ...]


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


def breakdowns(settings: Sequence[Setting]) -> dict[str, list[Breakdown]]:
    """By modality, language and turn, where the prompts differ in it."""
    by: dict[str, Callable[[Answer], str | None]] = {
        "Modality": lambda answer: answer.modality,
        "Language": lambda answer: answer.language,
        "Turn": lambda answer: str(answer.key[2] + 1),
    }
    found = {title: _breakdown(settings, kind) for title, kind in by.items()}
    return {title: rows for title, rows in found.items() if len(rows) > 1}


def _breakdown(settings: Sequence[Setting], kind: Callable[[Answer], str | None]) -> list[Breakdown]:
    units: list[dict[str, dict[str, dict[str, list[int]]]]] = []  # per setting: kind -> benchmark -> prompt -> tokens, forwards
    for setting in settings:
        sums: dict[str, dict[str, dict[str, list[int]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: [0, 0])))
        for benchmark in setting.benchmarks:
            for answer in benchmark.answers:
                unit = sums[kind(answer) or "unknown"][benchmark.name][answer.key[1]]
                unit[0] += max(answer.num_tokens - 1, 0)
                unit[1] += answer.forwards
        units.append(sums)
    names = dict.fromkeys(name for sums in units for name in sums)
    return [
        Breakdown(
            name, max(sum(map(len, sums[name].values())) for sums in units), tuple(_point(sums.get(name)) for sums in units)
        )
        for name in names
    ]


def _point(groups: dict[str, dict[str, list[int]]] | None) -> Point | None:
    rows = [list(prompts.values()) for prompts in (groups or {}).values()]
    tokens, forwards = (sum(unit[i] for row in rows for unit in row) for i in (0, 1))
    if not forwards:
        return None
    return Point(tokens / forwards, *tau_interval(rows))


def misses(setting: Setting, most: int = 12) -> list[Miss]:
    """The tokens missed most. A bonus token after a fully accepted path is no miss: nothing was proposed for it."""
    missed: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    before: dict[str, str] = {}
    depth = setting.kind.num_steps
    for answer in (answer for benchmark in setting.benchmarks for answer in benchmark.answers):
        at, pieces = 1, answer.pieces or ()
        for committed, kept in zip(answer.committed or (), answer.accepted or (), strict=True):
            if not pieces:
                break
            accepted.update(pieces[at : at + kept])
            if committed > kept and (depth is None or kept < depth):
                piece = pieces[at + kept]
                missed[piece] += 1
                before.setdefault(piece, "".join(pieces[max(at + kept - CONTEXT, 0) : at + kept]))
            at += committed
    return [Miss(p, n, n / (n + accepted[p]), before[p]) for p, n in missed.most_common(most) if p]
