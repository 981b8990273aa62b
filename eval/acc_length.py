"""Acceptance length of a draft on benchmarks, in our own tree-verification loop.

    python eval/acc_length.py --draft-tokens 4 8
    python eval/acc_length.py --target Qwen/Qwen3-VL-2B-Instruct --draft my-draft --benchmarks my_prompts.jsonl --topk 4
    python eval/acc_length.py --server http://localhost:8000     # of a running vLLM or SGLang: its draft, its own count

Draft tokens are nodes verified in one target forward, the root included: 4 is vLLM's num_speculative_tokens 3.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from benchmarks import default_names, load_benchmarks
from results import benchmark_result, column_result
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from server import score_server
from table import acceptance_table, position_table

from vlm_eagle.cli import run_cli
from vlm_eagle.config import DEMO
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.generate import check_fit, generate
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines import EngineName
from vlm_eagle.provenance import describe_run, sha256, write_json
from vlm_eagle.target.load import DEMO_TARGET, load_target
from vlm_eagle.target.target import Target


@dataclass(kw_only=True)
class AccLengthConfig:
    """What to score and how.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft.
        draft_tokens: nodes verified per target forward, the root included; one column of the table each.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
        benchmarks: demo benchmark names, or paths to JSONL files of conversations; none for all demo benchmarks.
        limit: prompts per benchmark at most; none for 16 of a demo benchmark and all of a file.
        max_new_tokens: longest answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        top_k: sample among the k most probable tokens, 0 is off (not the tree's topk).
        min_p: drop tokens below this share of the best one's probability, 0 is off.
        seed: of the sampling.
        image_inputs: what the draft reads at image tokens: token, as in vLLM, or merged (visual embeddings), as in SGLang.
        thinking: let a hybrid Qwen3 think (the chat template's enable_thinking).
        llm_only: drop the vision tower and score text benchmarks only.
        dtype: of both models; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto takes a GPU when there is one.
        server: address of a running vLLM or SGLang, measured instead of our own loop. What it drafts was decided when it was
            started: draft, draft_tokens, topk, num_steps, image_inputs, dtype and device do not matter then.
        engine: what the server is; auto asks it.
        timeout: seconds a server's answer may take.
        json: file for the results; none for outputs/demo/acc_length.json, or acc_length_server.json of a server.
    """

    target: str = "demo"
    draft: str = "outputs/demo/draft"
    draft_tokens: list[int] = field(default_factory=lambda: [4, 8])
    topk: int = 1
    num_steps: int | None = None
    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = None
    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    image_inputs: Literal["token", "merged"] = "token"
    thinking: bool = False
    llm_only: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    server: str | None = None
    engine: EngineName = "auto"
    timeout: float = 300.0
    json: str | None = None


def main(config: AccLengthConfig) -> None:
    """Scores the draft, prints the tables and writes the JSON."""
    console, out = Console(), Path(config.json or f"outputs/demo/acc_length{'_server' if config.server else ''}.json")
    sampling = Sampling(config.temperature, config.top_p, config.top_k, config.min_p)
    if config.server:
        with _progress(console) as progress:
            results = score_server(config, sampling, console, progress)
        _show(console, results)
        write_json(out, {"run": describe_run(config=asdict(config)), "settings": results})
        console.print(f"Written to {out}")
        return
    shapes = [TreeShape(n, config.topk, config.num_steps) for n in config.draft_tokens]
    draft = Eagle3Draft.from_pretrained(config.draft)
    scored = _fingerprint(config)
    if (done := _already(out, scored)) is not None:
        _show(console, done)
        console.print(f"Already scored: {out}. Remove the file to score again.")
        return
    target = _load_target(config, draft)
    draft = draft.to(target.device, target.embed_tokens.weight.dtype)
    check_fit(target, draft)
    text_only = config.llm_only or not target.is_vision
    names = config.benchmarks or default_names(text_only)
    benchmarks = load_benchmarks(names, config.limit, console=console)
    with _progress(console) as progress:
        results = [_score(target, draft, shape, sampling, benchmarks, config, progress) for shape in shapes]
    _show(console, results)
    write_json(out, {"scored": scored, "run": describe_run(config=asdict(config)), "settings": results})
    console.print(f"Written to {out}")


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("prompts"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _show(console: Console, results: list[dict[str, Any]]) -> None:
    console.print(acceptance_table(results))
    console.print(position_table(results))
    for row in results[0]["benchmarks"]:
        if row["skipped"]:
            console.print(f"{row['name']}: skipped {row['skipped']}")


def _fingerprint(config: AccLengthConfig) -> dict[str, Any]:
    """What the results depend on: settings, and the contents of all files. A model on the hub may change: no digest."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("json", "server", "engine", "timeout")}
    target = DEMO_TARGET if config.target == DEMO else Path(config.target)
    folders = (Path(config.draft), target)
    digest = sha256(f for folder in folders for f in sorted(folder.glob("*.safetensors")))
    files = [Path(name) for name in config.benchmarks if Path(name).is_file()]
    models = digest if all(folder.is_dir() for folder in folders) else None
    return {"settings": settings, "models": models, "files": sha256(files)}


def _already(file: Path, scored: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The results in `file` if they are of exactly this."""
    try:
        row = json.loads(file.read_text())
        return row["settings"] if row["scored"] == scored and scored["models"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _load_target(config: AccLengthConfig, draft: Eagle3Draft) -> Target:
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "float32" if config.dtype == "auto" and device == "cpu" else config.dtype
    return load_target(
        config.target, dtype=dtype, device=device, llm_only=config.llm_only, layer_ids=draft.config.aux_layer_ids
    )


def _score(
    target: Target,
    draft: Eagle3Draft,
    shape: TreeShape,
    sampling: Sampling,
    benchmarks: list[Benchmark],
    config: AccLengthConfig,
    progress: Progress,
) -> dict[str, Any]:
    """One column: all benchmarks with one tree shape."""
    collator = VisionCollator(
        target.processor,
        max_length=target.config.max_position_embeddings - config.max_new_tokens,
        for_generation=True,
        llm_only=config.llm_only,
        strict=True,
        thinking=config.thinking,
    )
    total, rows = AcceptanceStats(), []
    for benchmark in benchmarks:
        bar = progress.add_task(f"{benchmark.name}, {shape.num_draft_tokens} draft tokens", total=len(benchmark.prompts))
        stats, prompts, skipped = AcceptanceStats(), [], dict(benchmark.skipped)
        for number, prompt in enumerate(benchmark.prompts):
            progress.advance(bar)
            try:
                batch = collator([prompt.conversation]).to(target.device)
            except BadRow as error:
                skipped[error.reason] = skipped.get(error.reason, 0) + 1
                continue
            (answer,) = generate(
                target, batch, draft, shape=shape, sampling=sampling,
                max_new_tokens=config.max_new_tokens, seed=config.seed + number, image_inputs=config.image_inputs,
            )  # fmt: skip
            stats += answer.stats
            prompts.append({"id": prompt.id, "output_token_ids": answer.tokens, "num_forwards": answer.stats.forwards})
        progress.remove_task(bar)
        if not prompts:
            raise UserError(f"Benchmark {benchmark.name}: every prompt was skipped: {skipped}.")
        total += stats
        rows.append(benchmark_result(benchmark.name, stats, skipped, prompts))
    setting = {
        "num_draft_tokens": shape.num_draft_tokens, "num_speculative_tokens": shape.num_draft_tokens - 1,
        "topk": shape.topk, "num_steps": shape.num_steps, "sampling": asdict(sampling),
    }  # fmt: skip
    return column_result(setting, total, rows)


if __name__ == "__main__":
    sys.exit(run_cli(main, AccLengthConfig, __doc__))
