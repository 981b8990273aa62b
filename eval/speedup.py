"""Speed with the draft against without it: same prompts, same stack, same run, interleaved.

    python eval/speedup.py --mode both
    python eval/speedup.py --target Qwen/Qwen3-8B --draft my-draft --benchmarks prompts.jsonl --draft-tokens 16 --topk 4
        --num-steps 5

Baselines: our own loop without a draft (the one that counts), transformers' generate, and prompt-lookup decoding. Tokens are
counted from ids. "Decode" is the time after each answer's first token, "end to end" includes prompt and images.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from benchmarks import default_names, load_benchmark
from methods import Method, Timed, our_loop, prompt_lookup, transformers_generate
from rich.console import Console
from rich.progress import Progress
from speed_table import cost_table, forecast_table, speed_table

from vlm_eagle.cli import run_cli
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.auto import choose_shape
from vlm_eagle.decoding.cycle import ROOT_ALONE, Decoder
from vlm_eagle.decoding.generate import check_fit
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.timing import measure_cycles
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, write_json
from vlm_eagle.records import Batch
from vlm_eagle.target.load import load_target
from vlm_eagle.target.target import Target

EAGLE = {"total_token": 60, "depth": 7, "top_k": 10}  # defaults of the original's command line
PLAIN, DRAFTED, GENERATE, LOOKUP = "target alone", "with the draft", "transformers generate", "prompt lookup"


@dataclass(kw_only=True)
class SpeedupConfig:
    """What to time and how.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft.
        mode: baseline (all ways without a draft), eagle (the draft alone), or both, interleaved.
        draft_tokens: nodes verified per target forward, the root included.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
        tree: auto measures costs and acceptance first and takes the shape that should be fastest; or a fixed tree, each node
            the ranks that lead to it, as in 0 1 0.0 0.1; none for draft_tokens, topk and num_steps.
        total_token: EAGLE's name for draft_tokens. Where one of its three names is given, the others have its defaults: 60,
            7, 10.
        depth: EAGLE's name for num_steps - 1.
        top_k: EAGLE's name for topk (sampling's top-k is sample_top_k).
        benchmarks: demo benchmark names, or paths to JSONL files of conversations; none for all demo benchmarks.
        question_begin: first prompt of each benchmark, counted from 0.
        question_end: prompt behind the last; none for 8 of a demo benchmark and all of a file.
        concurrency: prompts decoded side by side; several numbers are timed one after the other.
        max_new_tokens: longest answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        sample_top_k: sample among the k most probable tokens, 0 is off.
        min_p: drop tokens below this share of the best one's probability, 0 is off.
        seed: of the sampling.
        repeats: passes over the prompts; medians are taken over them.
        thinking: let a hybrid Qwen3 think (the chat template's enable_thinking).
        llm_only: drop the vision tower and time text benchmarks only.
        dtype: of both models; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto takes a GPU when there is one, or this process's own under accelerate launch; spread lays the target over
            all GPUs.
        output_dir: folder for speedup.json.
    """

    target: str = "demo"
    draft: str = "outputs/demo/draft"
    mode: Literal["baseline", "eagle", "both"] = "both"
    draft_tokens: int = 8
    topk: int = 1
    num_steps: int | None = None
    tree: list[str] = field(default_factory=list)
    total_token: int | None = None
    depth: int | None = None
    top_k: int | None = None
    benchmarks: list[str] = field(default_factory=list)
    question_begin: int = 0
    question_end: int | None = None
    concurrency: list[int] = field(default_factory=lambda: [1])
    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    sample_top_k: int = 0
    min_p: float = 0.0
    seed: int = 42
    repeats: int = 1
    thinking: bool = False
    llm_only: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    output_dir: str = "outputs/demo"

    def __post_init__(self) -> None:
        given = [name for name in EAGLE if getattr(self, name) is not None]
        if given and self.tree:
            raise UserError("Give either a tree, or its size.")
        if given:  # what is not given has EAGLE's default
            self.draft_tokens = EAGLE["total_token"] if self.total_token is None else self.total_token
            self.topk = EAGLE["top_k"] if self.top_k is None else self.top_k
            self.num_steps = 1 + (EAGLE["depth"] if self.depth is None else self.depth)
        if min(self.concurrency, default=0) < 1 or self.repeats < 1:
            raise UserError("concurrency and repeats must be at least 1.")
        if self.question_end is not None and self.question_end <= self.question_begin:
            raise UserError("question_end must be greater than question_begin.")


def main(config: SpeedupConfig) -> None:
    """Times all methods, prints the tables, writes speedup.json."""
    state = PartialState(cpu=not torch.cuda.is_available())
    console = Console(quiet=not state.is_main_process)
    target, draft = _load(config, state)
    prompts = _prompts(config, target)
    sampling = Sampling(config.temperature, config.top_p, config.sample_top_k, config.min_p)
    shape = _shape(config, target, draft, prompts, sampling, console)
    methods = _methods(config, target, draft, shape, sampling)
    results = []
    for concurrency in config.concurrency:
        batches = _batches(prompts, target, config, concurrency)
        with state.split_between_processes(batches) as own:
            timed = _time(methods, own, config, console)
        summary = _summarise(gather_object([timed]))
        if DRAFTED in methods and PLAIN in methods:
            summary["speed_model"] = _speed_model(target, draft, shape, sampling, batches[0], summary)
        results.append({"concurrency": concurrency, "shape": str(shape), **summary})
        console.print(speed_table(results[-1], PLAIN))
        if "speed_model" in summary:
            console.print(cost_table(summary["speed_model"]))
    if state.is_main_process:
        out = Path(config.output_dir) / "speedup.json"
        write_json(out, {"run": describe_run(config=asdict(config)), "settings": results})
        console.print(f"Written to {out}")


def _load(config: SpeedupConfig, state: PartialState) -> tuple[Target, Eagle3Draft | None]:
    draft = None if config.mode == "baseline" else Eagle3Draft.from_pretrained(config.draft)
    device: str | torch.device = state.device if config.device == "auto" else config.device
    on_cpu = torch.device("cpu" if device == "spread" else device).type == "cpu"
    dtype = "float32" if config.dtype == "auto" and on_cpu and device != "spread" else config.dtype
    layer_ids = draft.config.aux_layer_ids if draft else None
    target = load_target(config.target, dtype=dtype, device=device, llm_only=config.llm_only, layer_ids=layer_ids)
    if draft:
        draft = draft.to(target.device, target.embed_tokens.weight.dtype)
        check_fit(target, draft)
    return target, draft


def _prompts(config: SpeedupConfig, target: Target) -> list[Any]:
    """The chosen conversations of all benchmarks, those that the target can read."""
    names = config.benchmarks or default_names(config.llm_only or not target.is_vision)
    chosen = []
    for name in names:
        file = Path(name).is_file()
        end = config.question_end if config.question_end is not None else (None if file else 8)
        chosen += [prompt.conversation for prompt in load_benchmark(name, end).prompts[config.question_begin :]]
    if not chosen:
        raise UserError("No prompts are left. Lower question_begin, or give more.")
    return chosen


def _collator(target: Target, config: SpeedupConfig) -> VisionCollator:
    limit = target.config.max_position_embeddings - config.max_new_tokens
    options = {"llm_only": config.llm_only, "thinking": config.thinking}
    return VisionCollator(target.processor, max_length=limit, for_generation=True, strict=True, **options)


def _batches(prompts: list[Any], target: Target, config: SpeedupConfig, size: int) -> list[Batch]:
    collator = _collator(target, config)
    try:
        return [collator(prompts[i : i + size]).to(target.device) for i in range(0, len(prompts), size)]
    except BadRow as error:
        raise UserError(str(error)) from error


def _shape(
    config: SpeedupConfig, target: Target, draft: Eagle3Draft | None, prompts: list[Any], sampling: Sampling, console: Console
) -> TreeShape:
    if config.tree != ["auto"]:
        return TreeShape.parse(config.tree) if config.tree else TreeShape(config.draft_tokens, config.topk, config.num_steps)
    if draft is None:
        raise UserError("tree auto needs a draft: choose mode eagle or both.")
    step = max(len(prompts) // 6, 1)
    forecasts = choose_shape(target, draft, _batches(prompts[::step], target, config, 1), sampling=sampling)
    console.print(forecast_table(forecasts))
    best = next(f for f in forecasts if f.shape != ROOT_ALONE)
    if forecasts[0].shape == ROOT_ALONE:
        console.print("The speed model expects no gain from drafting here; timing the best tree anyway.")
    return best.shape


def _methods(
    config: SpeedupConfig, target: Target, draft: Eagle3Draft | None, shape: TreeShape, sampling: Sampling
) -> dict[str, Method]:
    ours = {"sampling": sampling, "max_new_tokens": config.max_new_tokens, "seed": config.seed}
    theirs: dict[str, Any] = {"max_new_tokens": config.max_new_tokens, "do_sample": config.temperature > 0}
    if config.temperature > 0:
        theirs |= {
            "temperature": config.temperature, "top_p": config.top_p, "top_k": config.sample_top_k, "min_p": config.min_p,
        }  # fmt: skip
    methods: dict[str, Method] = {}
    if config.mode != "eagle":
        methods[PLAIN] = our_loop(target, None, **ours)
    if draft is not None:
        methods[DRAFTED] = our_loop(target, draft, shape=shape, **ours)
    if config.mode != "eagle":
        methods[GENERATE] = transformers_generate(target, **theirs)
        methods[LOOKUP] = prompt_lookup(target, **ours)
    return methods


def _time(methods: dict[str, Method], batches: list[Batch], config: SpeedupConfig, console: Console) -> dict[str, Any]:
    """Every batch by every method in turn, in an order that changes from batch to batch. The first batch is warm-up."""
    timed: dict[str, list[Timed]] = {name: [] for name in methods}
    names = list(methods)
    for name in names if batches else []:
        methods[name](batches[0])
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("timing", total=len(batches) * config.repeats)
        for number in range(config.repeats):
            for i, batch in enumerate(batches):
                shift = (i + number) % len(names)
                for name in names[shift:] + names[:shift]:
                    timed[name].append(methods[name](batch))
                progress.advance(bar)
    return timed


def _summarise(parts: list[dict[str, list[Timed]]]) -> dict[str, Any]:
    """Sums over all prompts and processes: tokens over seconds, never means of ratios."""
    rows, texts = {}, {}
    for name in parts[0]:
        all_timed = [timed for part in parts for timed in part[name]]
        decode = sum(t.total - t.first for t in all_timed)
        stats = AcceptanceStats()
        for timed in all_timed:
            if timed.stats is not None:
                stats += timed.stats
        texts[name] = [t.tokens for t in all_timed]
        rows[name] = {
            "tokens": sum(len(a) for t in all_timed for a in t.tokens),
            "decode_seconds": decode,
            "decode_tokens_per_second": sum(t.decoded for t in all_timed) / decode if decode else 0.0,
            "end_to_end_seconds": sum(t.total for t in all_timed),
            "end_to_end_tokens_per_second": sum(len(a) for t in all_timed for a in t.tokens) / sum(t.total for t in all_timed),
            "first_token_seconds": mean(t.first for t in all_timed),
            "acceptance_length": stats.acceptance_length or None,
            "forwards": stats.forwards or None,
        }
    base = texts.get(PLAIN)
    for name, row in rows.items():
        row["answers"] = sum(map(len, texts[name]))
        row["equal_to_target_alone"] = (
            None
            if base is None
            else sum(a == b for x, y in zip(texts[name], base, strict=True) for a, b in zip(x, y, strict=True))
        )
    return {"methods": rows}


def _speed_model(
    target: Target, draft: Eagle3Draft, shape: TreeShape, sampling: Sampling, batch: Batch, summary: dict[str, Any]
) -> dict[str, Any]:
    """Costs measured apart from the run, and the decode speedup they predict from its acceptance length."""
    sampler = Sampler(sampling)
    step = measure_cycles(Decoder(target, None, ROOT_ALONE, sampler), batch, 15).total
    cost = measure_cycles(Decoder(target, draft, shape, sampler), batch, 15)
    rows = summary["methods"]
    tau = rows[DRAFTED]["acceptance_length"]
    seen = rows[DRAFTED]["decode_tokens_per_second"] / rows[PLAIN]["decode_tokens_per_second"]
    return {
        "step_seconds": step, "cycle_seconds": cost.total, **cost.ratios(step), "acceptance_length": tau,
        "overhead_share_of_cycle": cost.overhead / cost.total,
        "predicted_speedup": tau * step / cost.total, "seen_speedup": seen,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_cli(main, SpeedupConfig, __doc__))
