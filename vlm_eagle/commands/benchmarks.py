"""The table of benchmarks; with names, the prompts as they would be asked.

    vlm-eagle benchmarks
    vlm-eagle benchmarks --benchmarks gsm8k=data/gsm8k mmspec=MMSpec/dataset/MMSpec/test --limit 2

No model is loaded.
"""

from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.conversation import TextPart
from vlm_eagle.demo import mix
from vlm_eagle.demo.benchmarks import DEMO_LIMIT, DEMO_PROMPTS
from vlm_eagle.evaluation.benchmarks import ENTRIES, in_words, load_benchmarks

_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")  # data shall not steer the terminal


@dataclass(kw_only=True)
class Config:
    """What to show.

    Attributes:
        benchmarks: names, name=source, or JSONL files of conversations, to be read and shown; none for the table of all.
        limit: prompts per benchmark at most.
    """

    benchmarks: list[str] = field(default_factory=list)
    limit: int | None = 3


def main(config: Config) -> None:
    """Prints the table, or the prompts."""
    console = Console()
    if not config.benchmarks:
        console.print(table())
        console.print("Give any of them to --benchmarks by name, or as name=folder-or-file in the same schema, or name=hub-id.")
        return
    for benchmark in load_benchmarks(config.benchmarks, config.limit, console=console):
        _show(console, benchmark)


def table() -> Table:
    """All benchmarks, one row each."""
    shown = Table(title="Benchmarks")
    for column in ("name", "prompts", "kind", "languages", "answer", "source", "licence", "made by"):
        shown.add_column(column, overflow="fold")
    for name in mix.TASKS:
        kind = "text" if name in mix.TEXT_TASKS else "multi-image" if name == "multi-image" else "image"
        language = "zh" if "chinese" in name else "en"
        shown.add_row(name, f"{DEMO_LIMIT} of {DEMO_PROMPTS}", kind, language, "", "the demo", "Apache-2.0", "")
    shown.add_section()
    for entry in ENTRIES.values():
        source = f"{entry.hub}, {entry.split}" if entry.hub else "a folder"
        shown.add_row(
            entry.name, entry.drawn, entry.modality, ", ".join(entry.languages), f"{entry.max_new_tokens:,}", source,
            entry.licence, entry.citation,
        )  # fmt: skip
    return shown


def _show(console: Console, benchmark: Benchmark) -> None:
    length = f", answers of at most {benchmark.max_new_tokens} tokens" if benchmark.max_new_tokens else ""
    skipped = f", skipped {in_words(benchmark.skipped)}" if benchmark.skipped else ""
    console.rule(f"{benchmark.name}: {len(benchmark.prompts)} prompts{length}{escape(skipped)}")
    for prompt in benchmark.prompts:
        _show_prompt(console, prompt)


def _show_prompt(console: Console, prompt: Prompt) -> None:
    about = ", ".join(filter(None, [prompt.modality, prompt.language, prompt.category]))
    console.print(f"[bold]{escape(prompt.id)}[/bold] [dim]{escape(about)}[/dim]".translate(_CONTROLS))
    for message in prompt.conversation.messages:
        shown = [
            part.text if isinstance(part, TextPart) else f"<{getattr(part, 'image', 'video')}>" for part in message.content
        ]
        console.print(f"  {message.role}: {''.join(shown)}".translate(_CONTROLS), markup=False, highlight=False)
    for turn in prompt.follow_ups:
        console.print(f"  then: {turn}".translate(_CONTROLS), markup=False, highlight=False)
