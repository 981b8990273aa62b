"""Acceptance length on a running engine: `acc_length.py --server URL`."""

from dataclasses import asdict
from typing import Any, Protocol

from benchmarks import default_names, load_benchmarks
from results import benchmark_result, column_result
from rich.console import Console
from rich.progress import Progress
from transformers import AutoProcessor, AutoTokenizer

from vlm_eagle.config import DEMO
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engine_http import Refused
from vlm_eagle.interop.engines import Asked, Engine, EngineName, connect
from vlm_eagle.target.load import DEMO_TARGET, VISION_TYPES, read_config


class ServerOptions(Protocol):
    """The options of acc_length.py that matter to a server."""

    server: str
    engine: EngineName
    timeout: float
    target: str
    benchmarks: list[str]
    limit: int | None
    max_new_tokens: int
    seed: int
    thinking: bool
    llm_only: bool


def score_server(config: ServerOptions, sampling: Sampling, console: Console, progress: Progress) -> list[dict[str, Any]]:
    """The one column a server gives: its own draft, as it was started."""
    is_vision = read_config(config.target).model_type in VISION_TYPES
    name = str(DEMO_TARGET) if config.target == DEMO else config.target
    processor = (AutoProcessor if is_vision else AutoTokenizer).from_pretrained(name, trust_remote_code=False)
    render = VisionCollator(processor, for_generation=True, thinking=config.thinking).render
    engine = connect(config.server, config.engine, render=render, timeout=config.timeout)
    console.print(f"{engine.kind} {engine.version or ''} at {config.server}, {engine.model}: {engine.shape}")
    names = config.benchmarks or default_names(config.llm_only or not is_vision)
    total, rows = AcceptanceStats(), []
    for benchmark in load_benchmarks(names, config.limit, console=console):
        stats, row = _score(engine, benchmark, config, sampling, progress)
        total += stats
        rows.append(row)
    if total.forwards and total.tokens <= total.forwards:
        console.print("The server accepted no draft token at all. docs/engines.md names usual reasons.", style="yellow")
    shape = asdict(engine.shape)
    setting = {
        "engine": {"kind": engine.kind, "version": engine.version, "model": engine.model, "url": config.server},
        **shape, "num_speculative_tokens": shape["num_draft_tokens"] - 1, "sampling": asdict(sampling),
    }  # fmt: skip
    return [column_result(setting, total, rows)]


def _score(
    engine: Engine, benchmark: Benchmark, config: ServerOptions, sampling: Sampling, progress: Progress
) -> tuple[AcceptanceStats, dict[str, Any]]:
    """One benchmark: what a prompt's answer took, prompt by prompt."""
    stats, prompts, skipped, last = AcceptanceStats(), [], dict(benchmark.skipped), ""
    bar = progress.add_task(f"{benchmark.name}, {engine.kind}", total=len(benchmark.prompts))
    for number, prompt in enumerate(benchmark.prompts):
        try:
            options = {"max_new_tokens": config.max_new_tokens, "thinking": config.thinking}
            asked = Asked(**options, sampling=sampling, seed=config.seed + number)
            answer = engine.answer(prompt.conversation, asked)
        except (BadRow, Refused) as error:
            reason, last = getattr(error, "reason", "refused by the server"), str(error)
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        finally:
            progress.advance(bar)
        stats += answer.stats
        row = {"id": prompt.id, "output_token_ids": answer.tokens, "num_forwards": answer.stats.forwards}
        prompts.append({**row, "text": answer.text})
    progress.remove_task(bar)
    if not prompts:
        raise UserError(f"Benchmark {benchmark.name}: every prompt was skipped: {skipped}. The last reason: {last}")
    return stats, benchmark_result(benchmark.name, stats, skipped, prompts)
