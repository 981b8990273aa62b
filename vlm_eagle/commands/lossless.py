"""Shows that drafting changes nothing: greedy answers with chains and trees against the target alone, token by token.

    vlm-eagle lossless --limit 30
    vlm-eagle lossless --limit 30 --dtype bfloat16

In float32 equal means equal. In a 16-bit type one forward over several tokens rounds otherwise than several forwards over one,
so answers may part where two tokens are as good as tied. Every such place is then measured: the float32 model's gap between the
two tokens must lie within the rounding error that the 16-bit logits show there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from vlm_eagle.cli import check_output
from vlm_eagle.config import draft_for
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.options import TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import default_names, in_words, load_benchmarks
from vlm_eagle.provenance import describe_run, write_json

if TYPE_CHECKING:
    from vlm_eagle.draft.model import Eagle3Draft
    from vlm_eagle.records import Batch
    from vlm_eagle.target.target import Target

SHAPES = (TreeShape(4), TreeShape(8), TreeShape(16, topk=4, num_steps=5))


@dataclass(kw_only=True)
class Config:
    """What to compare.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft; auto for the demo's own.
        dtype: of both models; a 16-bit one needs room for a float32 copy of the target as well.
        benchmarks: names of benchmarks, name=source, or JSONL files of conversations; none for all demo benchmarks. Of
            conversations with later turns only the first is asked.
        limit: prompts per benchmark at most; none for the benchmark's own number.
        max_new_tokens: longest answer.
        llm_only: text benchmarks only, without the vision tower.
        json: file for the results.
    """

    target: str = "demo"
    draft: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = None
    max_new_tokens: int = 160
    llm_only: bool = False
    json: str = "outputs/demo/lossless.json"

    def __post_init__(self) -> None:
        self.draft = draft_for(self.target, self.draft)


@dataclass(frozen=True)
class Parting:
    """Where an answer with the draft leaves the target's own.

    Attributes:
        position: tokens of the answer that are equal.
        gap: difference of the two tokens' float32 logits.
        rounding: largest error of the 16-bit logits at this place; 0 in float32.
    """

    id: str
    shape: str
    position: int
    gap: float
    rounding: float

    @property
    def is_tie(self) -> bool:
        """Both tokens' errors together may turn the order round."""
        return self.gap <= 2 * self.rounding


def main(config: Config) -> int:
    """Prints the table; the exit code is 1 if an answer differs at anything but a tie."""
    from vlm_eagle.decoding.pair import load_pair

    check_output(config.json)
    console = Console()
    pair = load_pair(config.target, config.draft, dtype=config.dtype, llm_only=config.llm_only)
    target, draft, exact = pair.target, pair.draft, pair.target
    if config.dtype != "float32":
        exact = load_pair(config.target, dtype="float32", llm_only=config.llm_only).target
    names = config.benchmarks or default_names(config.llm_only or not target.is_vision)
    table = Table("Benchmark", "prompts", "tokens", *(s.label for s in SHAPES), title="Answers equal to the target's")
    rows: list[dict[str, Any]] = []
    partings: list[Parting] = []
    for benchmark in load_benchmarks(names, config.limit, console=console):
        count, tokens, differing = 0, 0, {shape.label: 0 for shape in SHAPES}
        conversations = [prompt.conversation for prompt in benchmark.prompts]
        prompts = track(conversations, benchmark.name, console=console, disable=not console.is_terminal, transient=True)
        for alone, found in _compare(prompts, target, exact, draft, config, skipped := Counter(benchmark.skipped)):
            count, tokens = count + 1, tokens + alone
            partings += found
            for parting in found:
                differing[parting.shape] += 1
        row = {"name": benchmark.name, "prompts": count, "tokens": tokens, "differing": differing}
        rows.append({**row, "skipped": dict(skipped)})
        if skipped:
            console.print(f"{benchmark.name}: skipped {in_words(skipped)}", style="yellow", markup=False)
        table.add_row(benchmark.name, str(count), f"{tokens:,}", *(str(count - n) for n in differing.values()))
    console.print(table)
    ties = [p for p in partings if p.is_tie]
    total, written = sum(r["prompts"] for r in rows), sum(r["tokens"] for r in rows)
    if not total:
        raise UserError("Every prompt was skipped. Look at the reasons above.")
    console.print(f"{total} prompts, {written:,} tokens, {len(SHAPES)} trees, {config.dtype}: {len(partings)} answers differ.")
    if partings:
        gap, rounding = max(p.gap for p in partings), max(p.rounding for p in partings)
        console.print(f"{len(ties)} of them part at a tie. Largest gap {gap:.4f}, largest rounding {rounding:.4f}.")
    results = {"benchmarks": rows, "partings": [{**asdict(p), "is_tie": p.is_tie} for p in partings]}
    write_json(Path(config.json), {"run": describe_run(config=asdict(config)), **results})
    return 0 if len(ties) == len(partings) else 1


def _compare(
    prompts: Any, target: "Target", exact: "Target", draft: "Eagle3Draft", config: Config, skipped: Counter[str]
) -> Iterator[tuple[int, list[Parting]]]:
    """(tokens of the target's own answer, where answers with the draft leave it) of every prompt that can be asked; the others
    are added to `skipped`."""
    from vlm_eagle.data.collator import VisionCollator
    from vlm_eagle.decoding.generate import Settings, build_decoder, generate_with

    limit = target.config.max_position_embeddings - config.max_new_tokens
    collator = VisionCollator(target.processor, max_length=limit, for_generation=True, llm_only=config.llm_only, strict=True)
    settings = Settings(max_new_tokens=config.max_new_tokens)
    plain = build_decoder(target, None, settings)
    decoders = {shape: build_decoder(target, draft, replace(settings, shape=shape)) for shape in SHAPES}
    for conversation in prompts:
        try:
            batch, found = collator([conversation]).to(target.device), []
        except BadRow as error:
            skipped[error.reason] += 1
            continue
        alone = generate_with(plain, batch, settings)[0].tokens
        for shape, decoder in decoders.items():
            drafted = generate_with(decoder, batch, settings)[0].tokens
            if drafted != alone:
                found.append(Parting(conversation.id, shape.label, *_measure(target, exact, batch, alone, drafted)))
        yield len(alone), found


def _measure(
    target: "Target", exact: "Target", batch: "Batch", alone: list[int], drafted: list[int]
) -> tuple[int, float, float]:
    """(position, gap, rounding) of the first difference."""
    position = next(i for i, (a, b) in enumerate(zip(alone, drafted, strict=False)) if a != b)
    longer = batch.extended(alone[:position])
    logits, rounded = exact.prefill(longer).logits[0], target.prefill(longer).logits[0]
    gap = float((logits[alone[position]] - logits[drafted[position]]).abs())
    return position, gap, float((logits - rounded).abs().max())
