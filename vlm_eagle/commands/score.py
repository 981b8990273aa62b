"""Acceptance length of drafts on benchmarks, in our own tree-verification loop or on a running engine.

    vlm-eagle score --draft-tokens 4 8
    vlm-eagle score --target Qwen/Qwen3-8B --draft mine theirs --trees 5,4,16 chain4 --samplings greedy qwen3
    vlm-eagle score --config qwen3-vl-2b-instruct-eagle3 --draft my-draft
    accelerate launch -m vlm_eagle score ...                    # one process per GPU, prompts shared out
    vlm-eagle score --server http://localhost:8000     # of a running vLLM or SGLang: its draft, its own count
    vlm-eagle score --compare before.json after.json   # exit code 1 if acceptance fell

Every draft, tree and sampling makes a column. Draft tokens are nodes verified in one target forward, the root included: 4 is
vLLM's num_speculative_tokens 3. A killed run continues when the same command is repeated.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vlm_eagle.commands.options import MeasureOptions
from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import default_names, load_benchmarks
from vlm_eagle.evaluation.result_schema import Results, to_json
from vlm_eagle.evaluation.scores.acceptance_tables import results_console, show
from vlm_eagle.evaluation.scores.journal import EvaluationJournal
from vlm_eagle.evaluation.scores.option_words import parse_trees
from vlm_eagle.evaluation.scores.prompts import answer_length, check_names
from vlm_eagle.evaluation.scores.scoring import Column, tasks_of
from vlm_eagle.interop.names import EngineName
from vlm_eagle.provenance import check_output, describe_run, write_json

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(kw_only=True)
class Config(MeasureOptions):
    """What to score and how.

    Attributes:
        draft_tokens: nodes verified per target forward, the root included; one column of the table each.
        limit: prompts per benchmark at most; none for 16 of a demo benchmark and all of others.
        concurrency: prompts decoded at a time; no answer depends on it.
        check: answer greedily without a draft too, and count the answers that are equal.
        server: address of a running vLLM or SGLang, measured instead of our own loop. What it drafts was decided when it was
            started: draft, trees, concurrency, check, image_inputs, dtype and device do not matter then.
        engine: what the server is; auto asks it.
        timeout: seconds a server's answer may take.
        json: file for the results; none for outputs/demo/acc_length.json, or acc_length_server.json of a server.
    """

    draft_tokens: list[int] = field(default_factory=lambda: [4, 8])
    limit: int | None = None
    concurrency: int = 1
    check: bool = False
    server: str | None = None
    engine: EngineName = "auto"
    timeout: float = 300.0
    json: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UserError("concurrency must be at least 1.")
        if not self.draft_tokens:
            raise UserError("Give at least one number of draft_tokens.")
        super().__post_init__()

    @property
    def uses_drafts(self) -> bool:
        """Whether the drafts are going to be loaded."""
        return not self.server and not self.compare

    @property
    def shapes(self) -> list[TreeShape]:
        """The trees, a column each."""
        return parse_trees(self.trees) or [TreeShape(n, self.topk, self.num_steps) for n in self.draft_tokens]


def main(config: Config) -> int:
    """Scores the drafts, prints the tables and writes the JSON; or compares two of those."""
    from vlm_eagle.evaluation.scores.assemble import assemble, checked
    from vlm_eagle.evaluation.scores.compare import compare
    from vlm_eagle.evaluation.scores.models import processes
    from vlm_eagle.evaluation.scores.run_tasks import all_outcomes, already, identity

    if config.compare:
        return compare(config.compare, results_console())
    state = processes()
    console = results_console(quiet=not state.is_main_process)
    out = Path(config.json or f"outputs/demo/acc_length{'_server' if config.server else ''}.json")
    check_output(out)
    if config.server:
        columns, tokenizer, text_only = _server_columns(config, config.server, state, console)
    else:
        columns, tokenizer, text_only = _our_columns(config, state)
    with state.main_process_first():
        benchmarks = load_benchmarks(config.benchmarks or default_names(text_only), config.limit, console=console)
    check_names(benchmarks)
    lengths = [answer_length(config.max_new_tokens, benchmark) for benchmark in benchmarks]
    parts = list(zip(benchmarks, lengths, strict=True))
    plan = [(column, [(b, length, tasks_of(column, b, length, config.seed)) for b, length in parts]) for column in columns]
    scored = identity(plan)
    if not config.server and (done := already(out, scored)) is not None:  # a server may draft with another draft by now
        show(console, done)
        console.print(f"Already scored: {out}. Remove the file to score again.")
        return 0
    outcomes = all_outcomes([task for _, parts in plan for *_, tasks in parts for task in tasks], out, state, console)
    if state.is_main_process:
        settings = checked([assemble(column, parts, outcomes, tokenizer, out) for column, parts in plan])
        show(console, settings)
        write_json(out, to_json(Results(run=describe_run(config=asdict(config)), settings=settings, scored=scored)))
        EvaluationJournal(out).remove()
        console.print(f"Written to {out}")
    return 0


def _our_columns(config: Config, state: "PartialState") -> tuple[Sequence[Column], Any, bool]:
    """(columns, tokenizer, whether only text can be asked)."""
    from vlm_eagle.decoding.decode_loop import NO_DRAFT
    from vlm_eagle.evaluation.scores.models import load_pairs
    from vlm_eagle.evaluation.scores.our_column import OurColumn

    samplings, shapes = config.all_samplings, config.shapes  # wrong names show before models are loaded
    if config.check and all(sampling.temperature for sampling in samplings):
        raise UserError("check compares greedy answers, and none are asked for: add greedy to samplings.")
    load = {"dtype": config.dtype, "device": config.device, "llm_only": config.llm_only, "state": state}
    alone, pairs = load_pairs(config.target, config.draft, **load)
    options = {
        "batch_size": config.concurrency, "image_inputs": config.image_inputs, "llm_only": config.llm_only,
        "thinking": config.thinking,
    }  # fmt: skip
    columns: list[Column] = [
        OurColumn(pair, shape, sampling, **options) for pair in pairs for sampling in samplings for shape in shapes
    ]
    if config.check:
        columns.append(OurColumn(alone, NO_DRAFT, Sampling(), **options))
    return columns, alone.target.tokenizer, config.llm_only or not alone.target.is_vision


def _server_columns(config: Config, url: str, state: "PartialState", console: Console) -> tuple[Sequence[Column], Any, bool]:
    from vlm_eagle.evaluation.scores.server_column import ServerColumn, reach

    if state.num_processes > 1:
        raise UserError("A server is asked by one process: start this without accelerate launch.")
    samplings, about = config.all_samplings, {"target": config.target, "thinking": config.thinking}
    engine, processor, is_vision = reach(url, config.engine, timeout=config.timeout, **about)
    console.print(f"{engine.kind} {engine.version or ''} at {url}, {engine.model}: {engine.shape}")
    columns = [ServerColumn(engine, sampling, url=url, **about) for sampling in samplings]
    return columns, getattr(processor, "tokenizer", processor), config.llm_only or not is_vision
