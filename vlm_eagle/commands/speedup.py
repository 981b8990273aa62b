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
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from vlm_eagle.cli import check_output
from vlm_eagle.config import draft_for
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import default_names, load_benchmarks
from vlm_eagle.evaluation.result_schema import Results, SpeedResult, to_json
from vlm_eagle.evaluation.scores.acceptance_tables import results_console
from vlm_eagle.evaluation.scores.journal import EvaluationJournal
from vlm_eagle.evaluation.scores.names import short_names
from vlm_eagle.evaluation.scores.option_words import parse_samplings, parse_trees
from vlm_eagle.evaluation.scores.prompts import check_length, check_names
from vlm_eagle.evaluation.timing.speed_tables import cost_table, forecast_table, founding_table, interval_table, speed_table
from vlm_eagle.provenance import describe_run, write_json

if TYPE_CHECKING:
    from accelerate import PartialState

EAGLE = {"total_token": 60, "depth": 7, "top_k": 10}  # defaults of the original's command line
DEMO_PROMPTS = 8  # of each demo benchmark, unless question_end says otherwise


@dataclass(kw_only=True)
class Config:
    """What to time and how.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folders or hub ids of drafts, side by side; auto for the demo's own.
        mode: baseline (all ways without a draft), eagle (the drafts alone), or both, interleaved.
        baselines: timed besides our own loop without a draft, generate and lookup.
        draft_tokens: nodes verified per target forward, the root included.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
        trees: instead of the three above, several trees such as 5,4,16 (num_steps, topk, num_draft_tokens) or chain4.
        tree: auto measures costs and acceptance first and takes the shape that should be fastest; or a fixed tree, each node
            the ranks that lead to it, as in 0 1 0.0 0.1; none for draft_tokens, topk and num_steps.
        total_token: EAGLE's name for draft_tokens. Where one of its three names is given, the others have its defaults: 60,
            7, 10.
        depth: EAGLE's name for num_steps - 1.
        top_k: EAGLE's name for topk (sampling's top-k is sample_top_k).
        benchmarks: names of benchmarks, name=source, or JSONL files of conversations; none for all demo benchmarks.
        question_begin: first prompt of each benchmark, counted from 0.
        question_end: prompt behind the last; none for 8 of a demo benchmark and all of others.
        concurrency: prompts decoded side by side; several numbers are timed one after the other.
        max_new_tokens: longest answer; none for what the benchmark asks for, 160 where it does not say.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        sample_top_k: sample among the k most probable tokens, 0 is off.
        min_p: drop tokens below this share of the best one's probability, 0 is off.
        samplings: instead of the four above, greedy, qwen3 (0.6, top-p 0.95, top-k 20) or sampled (1), several in turn.
        seed: of the sampling.
        repeats: passes over the prompts; times are summed over them.
        image_inputs: what the draft reads at image tokens: token, as in vLLM, or visual_embeds, as in SGLang.
        thinking: let a hybrid Qwen3 think (the chat template's enable_thinking).
        llm_only: drop the vision tower and time text benchmarks only.
        dtype: of all models; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto takes a GPU when there is one, or this process's own under accelerate launch; balanced lays the target over
            all GPUs.
        output_dir: folder for speedup.json.
        compare: two files of results; says what changed from the first to the second, and measures nothing.
    """

    target: str = "demo"
    draft: list[str] = field(default_factory=lambda: ["auto"])
    mode: Literal["baseline", "eagle", "both"] = "both"
    baselines: list[str] = field(default_factory=lambda: ["generate", "lookup"])
    draft_tokens: int = 8
    topk: int = 1
    num_steps: int | None = None
    trees: list[str] = field(default_factory=list)
    tree: list[str] = field(default_factory=list)
    total_token: int | None = None
    depth: int | None = None
    top_k: int | None = None
    benchmarks: list[str] = field(default_factory=list)
    question_begin: int = 0
    question_end: int | None = None
    concurrency: list[int] = field(default_factory=lambda: [1])
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    sample_top_k: int = 0
    min_p: float = 0.0
    samplings: list[str] = field(default_factory=list)
    seed: int = 42
    repeats: int = 1
    image_inputs: Literal["token", "visual_embeds"] = "token"
    thinking: bool = False
    llm_only: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    output_dir: str = "outputs/demo"
    compare: list[str] = field(default_factory=list)

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
        check_length(self.max_new_tokens)
        if self.question_begin < 0:
            raise UserError("question_begin counts from 0 and must not be negative.")
        if self.question_end is not None and self.question_end <= self.question_begin:
            raise UserError("question_end must be greater than question_begin.")
        if unknown := set(self.baselines) - {"generate", "lookup"}:
            raise UserError(f"No baseline is called {', '.join(sorted(unknown))}. There are generate and lookup.")
        if len(set(self.draft)) < len(self.draft) or not self.draft:
            raise UserError("Give at least one draft, and each draft once.")
        if self.mode != "baseline" and not self.compare:
            self.draft = [draft_for(self.target, draft) for draft in self.draft]

    @property
    def shapes(self) -> list[TreeShape] | None:
        """The trees to time; None to find one out."""
        if self.tree == ["auto"]:
            return None
        if self.tree:
            return [TreeShape.parse(self.tree)]
        return parse_trees(self.trees) or [TreeShape(self.draft_tokens, self.topk, self.num_steps)]


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
    samplings = parse_samplings(config.samplings) or [
        Sampling(config.temperature, config.top_p, config.sample_top_k, config.min_p)
    ]
    state = processes()
    console = results_console(quiet=not state.is_main_process)
    drafts = [] if config.mode == "baseline" else config.draft
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
            f"Going on: of {len(setup.journal.found)} groups of prompts timed before, those of these settings are kept."
        )
    state.wait_for_everyone()  # all have read the journals before any writes to its own
    settings, speeds, names = [], [], short_names(drafts)
    for concurrency in config.concurrency:
        for sampling in samplings:
            rows, timed = time_all(setup, sampling, concurrency)
            settings, speeds = settings + rows, speeds + timed
            _show(console, timed, names)
    _show_founding(console, speeds)
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


def _show(console: Console, speeds: list[SpeedResult], names: dict[str | None, str]) -> None:
    for speed in speeds:
        if speed.forecasts:
            console.print(forecast_table(speed.forecasts))
        console.print(speed_table(speed, names[speed.draft]))
        if speed.draft is not None:
            console.print(interval_table(speed))
        if speed.speed_model:
            console.print(cost_table(speed.speed_model))


def _show_founding(console: Console, speeds: list[SpeedResult]) -> None:
    """A table for each tree and concurrency."""
    tables: dict[Any, list[SpeedResult]] = {}
    for speed in speeds:
        if speed.draft is not None:
            tables.setdefault((speed.concurrency, speed.shape), []).append(speed)
    for rows in tables.values():
        console.print(founding_table(rows))
