"""The JSON form of every evaluation, in our loop or on a server: written by `to_json`, read and checked by `read_results`.

`Results` is the whole file. A field without a default must be in the file; what is null or missing was not measured.
"""

import json
import reprlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.checked_json import from_json

SCHEMA = "vlm_eagle.eval/2"
MAX_BYTES = 2**30  # of a result file

Interval = tuple[float, float]  # low, high


@dataclass(kw_only=True)
class TurnResult:
    """One turn of one prompt.

    Attributes:
        id: unique within the benchmark.
        question: the text of the user's last message, shortened.
        images: files, relative to the JSON's folder where they are inside it.
        language: ISO 639-1.
        modality: text, image, multi-image or video.
        category: the benchmark's own.
        turn: 0, 1 ...: which answer of the conversation.
        output_token_ids: the answer, end token included; null where a server gives none.
        pieces: the text that each token completes, a special token's its name; joined they are the answer and its end.
        committed: tokens that each verification forward committed, in order; an answer's first token is the prefill's.
        accepted: how many of each forward's tokens were proposed by the draft.
        num_forwards: verification forwards.
        num_committed: tokens they committed.
        accepted_at: instead of `committed` and `accepted`, of servers: forwards that accepted position i.
        text: the answer, of servers.
    """

    id: str
    question: str
    images: list[str]
    language: str
    modality: str
    turn: int
    num_forwards: int
    num_committed: int
    category: str | None = None
    output_token_ids: list[int] | None = None
    pieces: list[str] | None = None
    committed: list[int] | None = None
    accepted: list[int] | None = None
    accepted_at: list[int] | None = None
    text: str | None = None


@dataclass(kw_only=True)
class AcceptanceSums:
    """Sums over some prompts and their ratio, tokens per forward.

    Attributes:
        tokens: committed by verification forwards, bonus tokens included.
        forwards: verification forwards of the target; the prefill is none.
        acceptance_length: tokens / forwards.
        interval: [low, high], 95 %, bootstrap over prompts; null for fewer than two.
    """

    tokens: int
    forwards: int
    acceptance_length: float
    interval: Interval | None = None


@dataclass(kw_only=True)
class Breakdown(AcceptanceSums):
    """The sums over one kind of `prompts`."""

    prompts: int


@dataclass(kw_only=True)
class Stretch(Breakdown):
    """The sums over the forwards that begin with at least `start` and fewer than `end` tokens of the answer before them."""

    start: int
    end: int


@dataclass(kw_only=True)
class AnswerTokens:
    """Lengths of answers."""

    mean: float
    median: float
    max: int


@dataclass(kw_only=True)
class Breakdowns:
    """Acceptance by kind of prompt and along the answer."""

    modality: dict[str, Breakdown] = field(default_factory=dict)
    language: dict[str, Breakdown] = field(default_factory=dict)
    turn: dict[str, Breakdown] = field(default_factory=dict)
    answer_position: list[Stretch] = field(default_factory=list)
    answer_tokens: AnswerTokens | None = None


@dataclass(kw_only=True)
class Totals(AcceptanceSums):
    """Sums with the acceptance of each proposed position.

    Attributes:
        by_position: P(i-th proposed token accepted).
        conditional: P(i-th proposed token accepted, given those before).
        answers: answers compared with the target's own; null where none were.
        equal_to_target_alone: how many of them are equal.
    """

    by_position: list[float]
    conditional: list[float]
    answers: int | None = None
    equal_to_target_alone: int | None = None


@dataclass(kw_only=True)
class BenchmarkResult(Totals):
    """One benchmark in one setting; `skipped` counts prompts by the reason why they were not answered."""

    name: str
    max_new_tokens: int
    prompts: list[TurnResult]
    skipped: dict[str, int] = field(default_factory=dict)
    answer_tokens: AnswerTokens | None = None


@dataclass(kw_only=True)
class DecodingSetup:
    """What was drafted and how tokens were chosen.

    Attributes:
        draft: name or folder; null for the target alone, and for a server, which does not say.
        target: name or folder.
        num_draft_tokens: nodes verified per forward, the root included; null without a draft.
        num_speculative_tokens: vLLM's count, one less.
        topk: 1 is a chain.
        num_steps: depth of the tree.
        paths: nodes of a fixed tree.
        sampling: temperature, top_p, top_k, min_p.
        concurrency: prompts decoded side by side.
        image_inputs: what the draft reads at image tokens.
        thinking: the chat template's enable_thinking.
        engine: kind, version, model and url of a server.
    """

    sampling: dict[str, float]
    concurrency: int
    draft: str | None = None
    target: str | None = None
    num_draft_tokens: int | None = None
    num_speculative_tokens: int | None = None
    topk: int | None = None
    num_steps: int | None = None
    paths: list[str] | None = None
    image_inputs: str | None = None
    thinking: bool | None = None
    engine: dict[str, str | None] | None = None

    @property
    def shape_key(self) -> tuple[Any, ...]:
        """Equal for equal trees."""
        return self.num_draft_tokens, self.topk, self.num_steps, tuple(self.paths or ())

    @property
    def key(self) -> tuple[Any, ...]:
        """All that answers depend on; not the concurrency."""
        sampling, engine = (tuple(sorted((chosen or {}).items())) for chosen in (self.sampling, self.engine))
        return (*self.shape_key, self.draft, self.target, sampling, self.image_inputs, self.thinking, engine)


@dataclass(kw_only=True)
class AcceptanceResult(DecodingSetup):
    """One column of a table: one draft, tree and sampling over all benchmarks.

    Attributes:
        average_acceptance_length: mean over the benchmarks, as model cards give it.
        average_interval: of it, 95 %.
        totals: all tokens over all forwards.
        unanswered: benchmark without any answer -> reason -> count of prompts.
    """

    average_acceptance_length: float
    average_interval: Interval | None = None
    totals: Totals
    breakdowns: Breakdowns = field(default_factory=Breakdowns)
    benchmarks: list[BenchmarkResult]
    unanswered: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(kw_only=True)
class MethodSpeed:
    """Sums of one timed way to write the answers; "decode" is the time after each answer's first token."""

    tokens: int
    answers: int
    decode_seconds: float
    decode_tokens_per_second: float
    end_to_end_seconds: float
    end_to_end_tokens_per_second: float
    first_token_seconds: float
    acceptance_length: float | None = None
    forwards: int | None = None
    equal_to_target_alone: int | None = None


@dataclass(kw_only=True)
class TimedBatch:
    """One batch by one method: enough to count everything again. `turns` are (prompt id, turn), `first` the seconds until all
    have their first token, `seconds` those until the end, `tokens` the lengths of the answers."""

    turns: list[tuple[str, int]]
    method: str
    repeat: int
    first: float
    seconds: float
    tokens: list[int]


@dataclass(kw_only=True)
class Speedups:
    """What a draft gains over the baselines: in all ("speedup") and in the time after each answer's first token ("decode").
    Intervals are 95 %, bootstrap: of speedups over batches with both methods' seconds paired, of the acceptance length over
    prompts."""

    acceptance_length: float | None = None
    acceptance_interval: Interval | None = None
    speedup: float | None = None
    interval: Interval | None = None
    decode_speedup: float | None = None
    decode_interval: Interval | None = None


@dataclass(kw_only=True)
class BenchmarkSpeed(Speedups):
    """One benchmark of a `SpeedResult`."""

    name: str
    methods: dict[str, MethodSpeed] = field(default_factory=dict)
    batches: list[TimedBatch] = field(default_factory=list)


@dataclass(kw_only=True)
class SpeedModel:
    """Costs of a cycle's parts (r_*) in plain decode steps, and the decode speedup they predict."""

    step_seconds: float
    cycle_seconds: float
    r_verify: float
    r_extend: float
    r_draft: float
    r_overhead: float
    acceptance_length: float
    overhead_share_of_cycle: float
    predicted_speedup: float
    seen_speedup: float | None = None


@dataclass(kw_only=True)
class ShapeForecast:
    """What the speed model expects of one tree; `seconds` are those of a cycle."""

    num_draft_tokens: int
    topk: int
    num_steps: int
    acceptance_length: float
    seconds: float
    speedup: float


@dataclass(kw_only=True)
class SpeedResult(DecodingSetup, Speedups):
    """One draft, tree, sampling and concurrency against the target alone in the same run.

    Attributes:
        shape: the tree in words.
        methods: all timed ways to write the answers.
        baselines: "end_to_end" and "decode" -> the fastest method without a draft, which speedups are against.
        benchmarks: the same of each benchmark.
    """

    shape: str | None = None
    methods: dict[str, MethodSpeed]
    baselines: dict[str, str] = field(default_factory=dict)
    benchmarks: list[BenchmarkSpeed]
    speed_model: SpeedModel | None = None
    forecasts: list[ShapeForecast] = field(default_factory=list)


@dataclass(kw_only=True)
class Results:
    """A file of results.

    Attributes:
        run: command, versions, machine and options.
        scored: of vlm-eagle score: digest of all that the settings depend on.
        settings: columns of the acceptance table.
        speed: of vlm-eagle speedup.
    """

    run: dict[str, Any]
    settings: list[AcceptanceResult]
    speed: list[SpeedResult] = field(default_factory=list)
    scored: str | None = None


def to_json(results: Results) -> dict[str, Any]:
    """The file's content."""
    return {"schema": SCHEMA, **asdict(results)}


def read_results(file: Path) -> Results:
    """A file that vlm-eagle score or vlm-eagle speedup wrote.

    Raises:
        UserError: no such file, too large, not JSON, or not of this schema; the message names the place.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file} is larger than {MAX_BYTES // 2**30} GiB, which no result file is.")
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}). Give files that vlm-eagle score or speedup wrote.") from error
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise UserError(
            f"{file} is not a result file of this version: its schema is {reprlib.repr(found)}, expected {SCHEMA!r}. "
            "Run vlm-eagle score or speedup again."
        )
    return from_json(Results, value, str(file))
