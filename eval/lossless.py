"""Shows that drafting changes nothing: greedy answers with a chain and a tree against the target alone, token by token.

python eval/lossless.py --limit 30
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from benchmarks import default_names, load_benchmark
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vlm_eagle.cli import run_cli
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import generate
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.provenance import describe_run, write_json
from vlm_eagle.target.load import load_target

SHAPES = (TreeShape(4), TreeShape(8), TreeShape(16, topk=4, num_steps=5))


@dataclass(kw_only=True)
class LosslessConfig:
    """What to compare.

    Attributes:
        target: folder or hub id of the target, or demo. It is run in float32, where equal means equal.
        draft: folder or hub id of the draft.
        benchmarks: demo benchmark names, or paths to JSONL files of conversations; none for all demo benchmarks.
        limit: prompts per benchmark at most; none for 16 of a demo benchmark and all of a file.
        max_new_tokens: longest answer.
        llm_only: text benchmarks only, without the vision tower.
        json: file for the results.
    """

    target: str = "demo"
    draft: str = "outputs/demo/draft"
    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = None
    max_new_tokens: int = 160
    llm_only: bool = False
    json: str = "outputs/demo/lossless.json"


def main(config: LosslessConfig) -> int:
    """Prints the table; the exit code is 1 if any answer differs."""
    console = Console()
    draft = Eagle3Draft.from_pretrained(config.draft).float()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    target = load_target(
        config.target, dtype="float32", device=device, llm_only=config.llm_only, layer_ids=draft.config.aux_layer_ids
    )
    draft = draft.to(device)
    collator = VisionCollator(
        target.processor, max_length=target.config.max_position_embeddings - config.max_new_tokens,
        for_generation=True, llm_only=config.llm_only, strict=True,
    )  # fmt: skip
    names = config.benchmarks or default_names(config.llm_only or not target.is_vision)
    table = Table("Benchmark", "prompts", "tokens", *(str(shape) for shape in SHAPES), title="Answers equal to the target's")
    rows = []
    for name in names:
        benchmark = load_benchmark(name, config.limit)
        tokens, differing = 0, {str(shape): [] for shape in SHAPES}
        for conversation in track(benchmark.prompts, name, console=console, disable=not console.is_terminal, transient=True):
            batch = collator([conversation]).to(device)
            alone = generate(target, batch, max_new_tokens=config.max_new_tokens)[0].tokens
            tokens += len(alone)
            for shape in SHAPES:
                if generate(target, batch, draft, shape=shape, max_new_tokens=config.max_new_tokens)[0].tokens != alone:
                    differing[str(shape)].append(conversation.id)
        count = len(benchmark.prompts)
        rows.append({"name": benchmark.name, "prompts": count, "tokens": tokens, "differing": differing})
        table.add_row(benchmark.name, str(count), f"{tokens:,}", *(f"{count - len(d)}" for d in differing.values()))
    console.print(table)
    total, differ = sum(r["prompts"] for r in rows), sum(len(d) for r in rows for d in r["differing"].values())
    console.print(f"{total} prompts, {sum(r['tokens'] for r in rows):,} tokens, {len(SHAPES)} trees: {differ} answers differ.")
    write_json(Path(config.json), {"run": describe_run(config=asdict(config)), "benchmarks": rows})
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(run_cli(main, LosslessConfig, __doc__))
