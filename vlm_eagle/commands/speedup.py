"""Speed with drafts against without: same prompts, same stack, same run, interleaved.

    vlm-eagle speedup --mode both
    vlm-eagle speedup --target Qwen/Qwen3-8B --draft mine theirs --trees 5,4,16 6,10,32 --samplings greedy qwen3 sampled
    vlm-eagle speedup --config eagle3-qwen3-8b-zh --draft my-draft
    vlm-eagle speedup --compare before.json after.json     # exit code 1 if acceptance or speedup fell

Baselines: our own loop without a draft, transformers' generate, and prompt-lookup decoding. Speedups are against the faster of
the first two. Tokens are counted from ids. "Decode" is the time after each answer's first token, "end to end" includes prompt
and images.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from vlm_eagle.commands.options import MeasureOptions
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import default_names, load_benchmarks
from vlm_eagle.evaluation.result_schema import Results, to_json
from vlm_eagle.evaluation.scores.acceptance_tables import results_console
from vlm_eagle.evaluation.scores.journal import EvaluationJournal
from vlm_eagle.evaluation.scores.names import short_names
from vlm_eagle.evaluation.scores.option_words import parse_trees
from vlm_eagle.evaluation.scores.prompts import check_names
from vlm_eagle.evaluation.timing.show import show_side_by_side, show_speeds
from vlm_eagle.provenance import check_output, describe_run, write_json

if TYPE_CHECKING:
    from accelerate import PartialState

EAGLE = {"total_token": 60, "depth": 7, "top_k": 10}  # defaults of the original's command line
DEMO_PROMPTS = 8  # of each demo benchmark, unless question_end says otherwise


@dataclass(kw_only=True)
class Config(MeasureOptions):
    """What to time and how.

    Attributes:
        mode: baseline (all ways without a draft), eagle (the drafts alone), or both, interleaved.
        baselines: timed besides our own loop without a draft, generate and lookup.
        tree: auto measures costs and acceptance first and takes the shape that should be fastest; or a fixed tree, each node
            the ranks that lead to it, as in 0 1 0.0 0.1; none for draft_tokens, topk and num_steps.
        total_token: EAGLE's name for draft_tokens. Where one of its three names is given, the others have its defaults: 60,
            7, 10.
        depth: EAGLE's name for num_steps - 1.
        top_k: EAGLE's name for topk (sampling's top-k is sample_top_k).
        sample_top_k: sample among the k most probable tokens, 0 is off.
        question_begin: first prompt of each benchmark, counted from 0.
        question_end: prompt after the last; none for 8 of a demo benchmark and all of others.
        concurrency: prompts decoded at a time; several numbers are timed one after the other.
        repeats: passes over the prompts; times are summed over them.
        output_dir: folder for speedup.json.
    """

    mode: Literal["baseline", "eagle", "both"] = "both"
    baselines: list[str] = field(default_factory=lambda: ["generate", "lookup"])
    tree: list[str] = field(default_factory=list)
    total_token: int | None = None
    depth: int | None = None
    top_k: int | None = None
    sample_top_k: int = 0
    question_begin: int = 0
    question_end: int | None = None
    concurrency: list[int] = field(default_factory=lambda: [1])
    seed: int = 42
    repeats: int = 1
    output_dir: str = "outputs/demo"

    def __post_init__(self) -> None:
        given = [name for name in EAGLE if getattr(self, name) is not None]
        if bool(given) + bool(self.tree) + bool(self.trees) > 1:
            raise UserError("Give either a tree, or its size, or several trees.")
        if given:  # what is not given has EAGLE's default
            self.draft_tokens = EAGLE["total_token"] if self.total_token is None else self.total_token
            self.topk = EAGLE["top_k"] if self.top_k is None else self.top_k
            self.num_steps = 1 + (EAGLE["depth"] if self.depth is None else self.depth)
        if min(self.concurrency, default=0) < 1 or self.repeats < 1:
            raise UserError("concurrency and repeats must be at least 1.")
        if self.question_begin < 0:
            raise UserError("question_begin counts from 0 and must not be negative.")
        if self.question_end is not None and self.question_end <= self.question_begin:
            raise UserError("question_end must be greater than question_begin.")
        if unknown := set(self.baselines) - {"generate", "lookup"}:
            raise UserError(f"No baseline is called {', '.join(sorted(unknown))}. There are generate and lookup.")
        super().__post_init__()

    @property
    def uses_drafts(self) -> bool:
        """Whether the drafts are going to be loaded."""
        return self.mode != "baseline" and not self.compare

    @property
    def shapes(self) -> list[TreeShape] | None:
        """The trees to time; None to choose one by measuring."""
        if self.tree == ["auto"]:
            return None
        if self.tree:
            return [TreeShape.parse(self.tree)]
        return parse_trees(self.trees) or [self.shape]

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen, checked."""
        return Sampling(self.temperature, self.top_p, self.sample_top_k, self.min_p)


def main(config: Config) -> int:
    """Times all methods, prints the tables, writes speedup.json; or compares two of those."""
    from vlm_eagle.evaluation.scores.compare import compare
    from vlm_eagle.evaluation.scores.models import load_pairs, processes
    from vlm_eagle.evaluation.timing.timing_round import Methods, Setup, time_all

    if config.compare:
        return compare(config.compare, results_console())
    if config.shapes is None and config.mode == "baseline":
        raise UserError("tree auto needs a draft: choose mode eagle or both.")
    out = Path(config.output_dir) / "speedup.json"
    check_output(out)
    samplings, state = config.all_samplings, processes()
    console = results_console(quiet=not state.is_main_process)
    drafts = config.draft if config.uses_drafts else []
    load = {"dtype": config.dtype, "device": config.device, "llm_only": config.llm_only, "state": state}
    alone, pairs = load_pairs(config.target, drafts, **load)
    target = alone.target
    methods = Methods(config.shapes, config.mode != "eagle", tuple(config.baselines), config.image_inputs)
    benchmarks = _benchmarks(config, config.llm_only or not target.is_vision, state, console)
    setup = Setup(
        target, pairs, methods, benchmarks, config.max_new_tokens, config.seed, config.repeats, config.llm_only,
        config.thinking, state, console, out, EvaluationJournal(out, state.process_index),
    )  # fmt: skip
    if setup.journal.found:
        console.print(
            f"Continuing: of {len(setup.journal.found)} groups of prompts timed before, those of these settings are kept."
        )
    state.wait_for_everyone()  # all have read the journals before any writes to its own
    settings, speeds, names = [], [], short_names(drafts)
    for concurrency in config.concurrency:
        for sampling in samplings:
            rows, timed = time_all(setup, sampling, concurrency)
            settings, speeds = settings + rows, speeds + timed
            show_speeds(console, timed, names)
    show_side_by_side(console, speeds)
    if state.is_main_process:
        write_json(out, to_json(Results(run=describe_run(config=asdict(config)), settings=settings, speed=speeds)))
        setup.journal.remove()
        console.print(f"Written to {out}")
    return 0


def _benchmarks(config: Config, text_only: bool, state: "PartialState", console: Console) -> list[Benchmark]:
    """Each benchmark's chosen prompts."""
    begin, demo = config.question_begin, default_names(False)
    with state.main_process_first():
        found = load_benchmarks(config.benchmarks or default_names(text_only), config.question_end, console=console)
    check_names(found)
    for benchmark in found:
        end = begin + DEMO_PROMPTS if config.question_end is None and benchmark.name in demo else None
        benchmark.prompts = benchmark.prompts[begin:end]
    found = [benchmark for benchmark in found if benchmark.prompts]
    if not found:
        raise UserError("No prompts are left. Lower question_begin, or give more.")
    return found
