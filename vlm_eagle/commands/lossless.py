"""Shows that drafting changes nothing: greedy answers with chains and trees against the target alone, token by token.

    vlm-eagle lossless --limit 30
    vlm-eagle lossless --limit 30 --dtype bfloat16

In float32 equal means equal. In a 16-bit type one forward over several tokens rounds differently from several forwards over
one, so answers may part where two tokens are nearly tied. Every such place is then measured: the float32 model's gap between
the two tokens must be within the rounding error of the 16-bit logits there.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from vlm_eagle.commands.options import PairOptions
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.options import TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import default_names, in_words, load_benchmarks
from vlm_eagle.provenance import check_output, describe_run, write_json

SHAPES = (TreeShape(4), TreeShape(8), TreeShape(16, topk=4, num_steps=5))


@dataclass(kw_only=True)
class Config(PairOptions):
    """What to compare.

    Attributes:
        dtype: of both models; a 16-bit one needs room for a float32 copy of the target as well.
        benchmarks: names of benchmarks, name=source, or JSONL files of conversations; none for all demo benchmarks. Of
            conversations with later turns only the first is asked.
        limit: prompts per benchmark at most; none for the benchmark's own number.
        max_new_tokens: longest answer.
        llm_only: text benchmarks only, without the vision tower.
        json: file for the results.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = None
    max_new_tokens: int = 160
    llm_only: bool = False
    json: str = "outputs/demo/lossless.json"


def main(config: Config) -> int:
    """Prints the table; the exit code is 1 if an answer differs at anything but a tie."""
    from vlm_eagle.decoding.pair import load_pair
    from vlm_eagle.evaluation.lossless import Parting, compare_answers

    check_output(config.json)
    console, pair = Console(), config.load(config.llm_only)
    exact = pair.target
    if config.dtype != "float32":
        exact = load_pair(config.target, device=config.device, dtype="float32", llm_only=config.llm_only).target
    names = config.benchmarks or default_names(config.llm_only or not pair.target.is_vision)
    table = Table("Benchmark", "prompts", "tokens", *(s.label for s in SHAPES), title="Answers equal to the target's")
    rows, partings = [], list[Parting]()
    for benchmark in load_benchmarks(names, config.limit, console=console):
        conversations = [prompt.conversation for prompt in benchmark.prompts]
        prompts = track(conversations, benchmark.name, console=console, disable=not console.is_terminal, transient=True)
        results = [*compare_answers(prompts, pair, exact, SHAPES, config.max_new_tokens, config.llm_only)]
        compared = [result for result in results if not isinstance(result, BadRow)]
        skipped = Counter(benchmark.skipped) + Counter(r.reason for r in results if isinstance(r, BadRow))
        found = [parting for _, some in compared for parting in some]
        differing = {shape.label: sum(parting.shape == shape.label for parting in found) for shape in SHAPES}
        row = {"name": benchmark.name, "prompts": len(compared), "tokens": sum(tokens for tokens, _ in compared)}
        rows.append({**row, "differing": differing, "skipped": dict(skipped)})
        partings += found
        if skipped:
            console.print(f"{benchmark.name}: skipped {in_words(skipped)}", style="yellow", markup=False)
        table.add_row(
            row["name"], f"{row['prompts']}", f"{row['tokens']:,}", *(f"{len(compared) - n}" for n in differing.values())
        )
    console.print(table)
    total, written = sum(row["prompts"] for row in rows), sum(row["tokens"] for row in rows)
    if not total:
        raise UserError("Every prompt was skipped. Look at the reasons above.")
    ties = sum(parting.is_tie for parting in partings)
    console.print(f"{total} prompts, {written:,} tokens, {len(SHAPES)} trees, {config.dtype}: {len(partings)} answers differ.")
    if partings:
        gap, rounding = max(p.gap for p in partings), max(p.rounding for p in partings)
        console.print(f"{ties} of them part at a tie. Largest gap {gap:.4f}, largest rounding {rounding:.4f}.")
    found = [{**asdict(parting), "is_tie": parting.is_tie} for parting in partings]
    write_json(Path(config.json), {"run": describe_run(config=asdict(config)), "benchmarks": rows, "partings": found})
    return 0 if ties == len(partings) else 1
