"""One round of timing: every draft and tree, and every method without a draft, on the same prompts, in the same run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import Progress

from vlm_eagle.config import ImageInputs
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.decoding.auto import Forecast, choose_shape
from vlm_eagle.decoding.decode_loop import NO_DRAFT
from vlm_eagle.decoding.plain import PlainDecoder
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.timing import measure_cycles
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import in_words
from vlm_eagle.evaluation.methods import Method, our_loop, prompt_lookup, transformers_generate
from vlm_eagle.evaluation.result_schema import AcceptanceResult, ShapeForecast, SpeedModel, SpeedResult
from vlm_eagle.evaluation.scores.assemble import turn_results
from vlm_eagle.evaluation.scores.journal import EvaluationJournal
from vlm_eagle.evaluation.scores.models import MeasuredPair
from vlm_eagle.evaluation.scores.names import DRAFTED, GENERATE, LOOKUP, PLAIN
from vlm_eagle.evaluation.scores.our_column import code_digest, shape_head
from vlm_eagle.evaluation.scores.prompts import answer_length
from vlm_eagle.evaluation.scores.sums import acceptance_result, benchmark_result
from vlm_eagle.evaluation.timing.benchmark import BenchmarkTurn, TimedWorkload, Timing, groups_of, run_benchmark
from vlm_eagle.evaluation.timing.speeds import answers_of, speed_result
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

CYCLES = 15  # measured for the speed model


@dataclass(frozen=True)
class Methods:
    """What is timed: trees (None chooses one by measuring), the target alone or not, and what else needs no draft."""

    shapes: Sequence[TreeShape] | None
    alone: bool
    baselines: tuple[str, ...]
    image_inputs: ImageInputs


@dataclass(frozen=True)
class Setup:
    """What stays the same through all rounds; see `speedup.SpeedupConfig`."""

    target: Target
    pairs: Sequence[MeasuredPair]
    methods: Methods
    benchmarks: Sequence[Benchmark]
    max_new_tokens: int | None
    seed: int
    repeats: int
    llm_only: bool
    thinking: bool
    state: PartialState
    console: Console
    out: Path
    journal: EvaluationJournal

    @property
    def identity(self) -> list[Any]:
        """All that answers and their speed depend on, besides prompts, methods and sampling."""
        precision = [str(self.target.embed_tokens.weight.dtype), self.target.device.type]
        models = [self.target.fingerprint, *(pair.digests for pair in self.pairs)]
        return [models, precision, code_digest(), self.methods.image_inputs, self.thinking, self.llm_only]


@dataclass(frozen=True)
class Drafted:
    """A draft with a tree; `method` is its name among the timings."""

    pair: MeasuredPair
    shape: TreeShape
    forecasts: Sequence[Forecast] | None

    @property
    def method(self) -> str:
        """Unique in a round."""
        return f"{self.pair.name}, {self.shape}"


def time_all(setup: Setup, sampling: Sampling, concurrency: int) -> tuple[list[AcceptanceResult], list[SpeedResult]]:
    """(settings, speeds) of one sampling and one number of prompts side by side.

    Raises:
        UserError: no prompt can be asked.
    """
    workload = TimedWorkload(
        setup.target, _answerer(setup, sampling), seed=setup.seed, llm_only=setup.llm_only, thinking=setup.thinking
    )
    turns = _own_turns(setup, workload)
    drafted = _drafted(setup, workload, turns, sampling)
    methods = _methods(setup, drafted, sampling)
    groups = groups_of(turns, concurrency)
    with Progress(console=setup.console, disable=not setup.console.is_terminal, transient=True) as progress:
        bar = progress.add_task("timing", total=len(groups) * setup.repeats)
        identity = [setup.identity, list(methods), asdict(sampling), concurrency]
        own = run_benchmark(methods, workload, groups, setup.repeats, lambda: progress.advance(bar), setup.journal, identity)
    timings, skipped = _gathered(own, workload, setup)
    if not timings:
        raise UserError("No prompt could be asked. " + "; ".join(f"{b}: {in_words(why)}" for b, why in skipped.items()) + ".")
    common = {"sampling": asdict(sampling), "concurrency": concurrency, "image_inputs": setup.methods.image_inputs}
    others = {name: name for name in methods if name not in {d.method for d in drafted}}
    greedy = sampling.temperature == 0
    settings, speeds = [], []
    for d in drafted:
        head = {"draft": d.pair.name, "target": d.pair.target_name, **shape_head(d.shape), **common, "thinking": setup.thinking}
        settings.append(_setting(setup, head, timings, d.method, skipped))
        speed = speed_result({**head, "shape": str(d.shape)}, timings, {**others, d.method: DRAFTED}, greedy)
        if PLAIN in methods and groups and setup.state.is_main_process:
            speed.speed_model = _speed_model(setup, d, sampling, workload.batch(groups[0]), speed)
        if d.forecasts:
            speed.forecasts = [_forecast(forecast) for forecast in d.forecasts]
        speeds.append(speed)
    if not drafted:
        name = {"draft": None, "target": None, "shape": None, **common}
        speeds.append(speed_result(name, timings, others, greedy))
    return settings, speeds


def _answerer(setup: Setup, sampling: Sampling) -> Method:
    """Writes the answers after which later turns are asked; with a draft it is merely quicker."""
    if not setup.pairs or not setup.methods.shapes:
        return our_loop(setup.target, None, sampling=sampling)
    pair = setup.pairs[0]
    return our_loop(pair.target, pair.draft, setup.methods.shapes[0], sampling, setup.methods.image_inputs)


def _own_turns(setup: Setup, workload: TimedWorkload) -> list[BenchmarkTurn]:
    """Of this process's share of each benchmark's prompts."""
    state, found = setup.state, []
    for benchmark in setup.benchmarks:
        own = benchmark.prompts[state.process_index :: state.num_processes]
        found += workload.turns(benchmark, own, answer_length(setup.max_new_tokens, benchmark))
    return found


def _drafted(setup: Setup, workload: TimedWorkload, turns: Sequence[BenchmarkTurn], sampling: Sampling) -> list[Drafted]:
    """Every draft with every tree."""
    if setup.methods.shapes is not None:
        return [Drafted(pair, shape, None) for pair in setup.pairs for shape in setup.methods.shapes]
    return [_chosen(setup, pair, workload, turns, sampling) for pair in setup.pairs]


def _chosen(
    setup: Setup, pair: MeasuredPair, workload: TimedWorkload, turns: Sequence[BenchmarkTurn], sampling: Sampling
) -> Drafted:
    """The draft with the tree that should be fastest, measured by the first process for all."""
    assert pair.draft is not None
    found: list[Forecast] = []
    if setup.state.is_main_process:
        some = [workload.batch([turn]) for turn in turns[:: max(len(turns) // 6, 1)]]
        found = choose_shape(pair.target, pair.draft, some, sampling=sampling)
        if found[0].shape == NO_DRAFT:
            setup.console.print("The speed model expects no gain from drafting here; timing the best tree anyway.")
    forecasts = gather_object(found)
    return Drafted(pair, next(f.shape for f in forecasts if f.shape != NO_DRAFT), forecasts)


def _methods(setup: Setup, drafted: Sequence[Drafted], sampling: Sampling) -> dict[str, Method]:
    wanted, methods = setup.methods, {}
    if wanted.alone:
        methods[PLAIN] = our_loop(setup.target, None, sampling=sampling)
    for d in drafted:
        methods[d.method] = our_loop(d.pair.target, d.pair.draft, d.shape, sampling, wanted.image_inputs)
    if wanted.alone and "generate" in wanted.baselines:
        methods[GENERATE] = transformers_generate(setup.target, sampling)
    if wanted.alone and "lookup" in wanted.baselines:
        methods[LOOKUP] = prompt_lookup(setup.target, sampling)
    return methods


def _gathered(own: list[Timing], workload: TimedWorkload, setup: Setup) -> tuple[list[Timing], dict[str, Counter[str]]]:
    """All processes' timings, and per benchmark what was skipped for which reason."""
    skipped = {benchmark.name: Counter(benchmark.skipped) for benchmark in setup.benchmarks}
    for part in gather_object([workload.skipped]):
        for name, reasons in part.items():
            skipped[name].update(reasons)
    return gather_object(own), skipped


def _setting(
    setup: Setup, head: dict[str, Any], timings: Sequence[Timing], method: str, skipped: dict[str, Counter[str]]
) -> AcceptanceResult:
    """The acceptance of the timed answers, in the form in which vlm-eagle score counts it."""
    answers, tokenizer, benchmarks = answers_of(timings, method), setup.target.tokenizer, []
    for benchmark in setup.benchmarks:
        turns = []
        for prompt in benchmark.prompts:
            turns += turn_results(prompt, answers.get((benchmark.name, prompt.id), []), tokenizer, setup.out)
        if turns:
            about = {"depth": head["num_steps"], "max_new_tokens": answer_length(setup.max_new_tokens, benchmark)}
            benchmarks.append(benchmark_result(benchmark.name, turns, skipped[benchmark.name], **about))
    return acceptance_result(head, benchmarks)


def _speed_model(setup: Setup, d: Drafted, sampling: Sampling, batch: Batch, speed: SpeedResult) -> SpeedModel:
    """Costs measured apart from the run, and the decode speedup they predict from its acceptance length."""
    assert d.pair.draft is not None
    sampler, tau = Sampler(sampling), speed.acceptance_length or 0.0
    step = measure_cycles(PlainDecoder(setup.target, sampler), batch, CYCLES).total
    decoder = SpeculativeDecoder(d.pair.target, d.pair.draft, d.shape, sampler, image_inputs=setup.methods.image_inputs)
    cost = measure_cycles(decoder, batch, CYCLES)
    return SpeedModel(
        step_seconds=step, cycle_seconds=cost.total, **cost.ratios(step), acceptance_length=tau,
        overhead_share_of_cycle=cost.overhead / cost.total,
        predicted_speedup=tau * step / cost.total, seen_speedup=speed.decode_speedup,
    )  # fmt: skip


def _forecast(forecast: Forecast) -> ShapeForecast:
    shape = forecast.shape
    return ShapeForecast(
        num_draft_tokens=shape.num_draft_tokens, topk=shape.topk, num_steps=shape.depth,
        acceptance_length=forecast.acceptance_length, seconds=forecast.seconds, speedup=forecast.speedup,
    )  # fmt: skip
