"""What the report knows of a measurement, read from files that `acc_length.py` and `speedup.py` wrote.

None means that the file does not say it. Words are those of docs/architecture.md.
"""

from dataclasses import dataclass, field
from pathlib import Path

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """Sums over verifications and their ratios.

    Attributes:
        tokens: committed by verification forwards, bonus included.
        forwards: verification forwards of the target.
        acceptance_length: tokens per forward.
        interval: 95 % interval of it.
        by_position: P(i-th proposed token accepted), i = 1..
        conditional: the same, given that all before it were.
        equal: answers equal to those of the target alone, of how many; None where that was not looked at.
    """

    tokens: int
    forwards: int
    acceptance_length: float
    interval: Interval | None = None
    by_position: tuple[float, ...] = ()
    conditional: tuple[float, ...] = ()
    equal: tuple[int, int] | None = None


@dataclass(frozen=True)
class Answer:
    """One prompt's answer.

    Attributes:
        key: what the same question has in common over settings and files: benchmark, id, turn, and how often that came before.
        question: the user's last turn.
        images: files as the results name them.
        language: such as en or zh.
        modality: text, image, multi-image or video.
        num_tokens: of the answer, the first one from the prefill included.
        forwards: verification forwards.
        pieces: the text of every token; None when the file has none.
        committed: tokens of every verification forward in order; with the first token they are the answer.
        accepted: how many of those were proposed by the draft; the others are bonus tokens.
    """

    key: tuple[str, str, int, int]
    question: str | None
    images: tuple[str, ...]
    language: str | None
    modality: str | None
    num_tokens: int
    forwards: int
    pieces: tuple[str, ...] | None = None
    committed: tuple[int, ...] | None = None
    accepted: tuple[int, ...] | None = None


@dataclass(frozen=True)
class BenchmarkScore:
    """One benchmark under one setting."""

    name: str
    score: Score
    skipped: dict[str, int]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Kind:
    """What was run: the facts that tell one setting from another.

    Attributes:
        draft: name or path.
        target: name or path.
        num_draft_tokens: nodes verified per forward, the root included; 1 is the target alone.
        topk: 1 is a chain.
        num_steps: depth of the tree.
        fixed: whether the tree's nodes were given, not chosen by the draft.
        sampling: greedy, or temperature and filters, in words.
        concurrency: prompts decoded side by side.
        image_inputs: what the draft read at image tokens.
        thinking: whether the chat template asked for it.
        engine: of a server; None for our own loop.
        shape: in the file's own words, where the numbers are not given.
    """

    draft: str | None = None
    target: str | None = None
    num_draft_tokens: int | None = None
    topk: int | None = None
    num_steps: int | None = None
    fixed: bool = False
    sampling: str | None = None
    concurrency: int | None = None
    image_inputs: str | None = None
    thinking: bool | None = None
    engine: str | None = None
    shape: str | None = None

    def fits(self, other: "Kind") -> bool:
        """Whether both may be one setting: the same tree, and nothing else that both state differs. Answers do not depend on
        how many prompts are decoded side by side."""
        if (self.num_draft_tokens, self.topk, self.num_steps) != (other.num_draft_tokens, other.topk, other.num_steps):
            return False
        stated = ("draft", "target", "fixed", "sampling", "image_inputs", "thinking", "engine")
        return all(a is None or b is None or a == b for a, b in ((getattr(self, n), getattr(other, n)) for n in stated))


@dataclass(frozen=True)
class Setting:
    """One column of the acceptance table."""

    kind: Kind
    average: float | None
    average_interval: Interval | None
    totals: Score
    benchmarks: tuple[BenchmarkScore, ...]
    file: Path


@dataclass(frozen=True)
class Method:
    """One timed way to write the answers."""

    name: str
    decode_rate: float  # tokens per second after the first token
    whole_rate: float  # tokens per second, prompt and images included
    first_token_seconds: float | None
    acceptance_length: float | None
    equal: int | None  # answers equal to those of the target alone
    answers: int | None


@dataclass(frozen=True)
class Gain:
    """A speedup and its 95 % interval."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Forecast:
    """What the speed model says of one tree."""

    num_draft_tokens: int
    speedup: float


@dataclass(frozen=True)
class Speed:
    """One timed setting: tokens per second with the draft over those of the target alone.

    Attributes:
        kind: what was timed.
        decode: speedup of the time after each answer's first token, with its interval.
        whole: speedup in all, prompt and images included, with its interval.
        predicted: decode speedup by the speed model.
        methods: all timed ways to write the answers.
        benchmarks: decode speedup of each.
        forecasts: of other trees.
        file: where it comes from.
    """

    kind: Kind
    decode: Gain | None
    whole: Gain | None
    predicted: float | None
    methods: tuple[Method, ...]
    benchmarks: dict[str, Gain]
    forecasts: tuple[Forecast, ...]
    file: Path

    def method(self, name: str) -> Method | None:
        """A method by name, if it was timed."""
        return next((method for method in self.methods if method.name == name), None)


@dataclass
class Results:
    """Everything in the files.

    Attributes:
        settings: columns of the acceptance table.
        speeds: timed settings.
        runs: per file its path and facts about the run, in words.
        notes: what is missing or does not add up, as sentences for the page.
    """

    settings: list[Setting] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    runs: list[tuple[Path, list[tuple[str, str]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
