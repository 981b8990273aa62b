"""The table of all benchmarks, and the prompts of some, for a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.conversation import Part, TextPart
from vlm_eagle.demo import mix
from vlm_eagle.demo.benchmarks import DEMO_LIMIT, DEMO_PROMPTS
from vlm_eagle.evaluation.benchmarks.entries import ENTRIES
from vlm_eagle.evaluation.benchmarks.load import in_words

_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")  # data shall not steer the terminal


def benchmark_table() -> Table:
    """All benchmarks, one row each."""
    table = Table(title="Benchmarks")
    for column in ("name", "prompts", "kind", "languages", "answer", "source", "licence", "made by"):
        table.add_column(column, overflow="fold")
    for name in mix.TASKS:
        kind = "text" if name in mix.TEXT_TASKS else "multi-image" if name == "multi-image" else "image"
        language = "zh" if "chinese" in name else "en"
        table.add_row(name, f"{DEMO_LIMIT} of {DEMO_PROMPTS}", kind, language, "", "the demo", "Apache-2.0", "")
    table.add_section()
    for entry in ENTRIES.values():
        source = f"{entry.hub}, {entry.split}" if entry.hub else "a folder"
        table.add_row(
            entry.name, entry.drawn, entry.modality, ", ".join(entry.languages), f"{entry.max_new_tokens:,}", source,
            entry.licence, entry.citation,
        )  # fmt: skip
    return table


def show_benchmark(console: Console, benchmark: Benchmark) -> None:
    """Prints its prompts as they would be asked."""
    length = f", answers of at most {benchmark.max_new_tokens} tokens" if benchmark.max_new_tokens else ""
    skipped = f", skipped {in_words(benchmark.skipped)}" if benchmark.skipped else ""
    console.rule(f"{benchmark.name}: {len(benchmark.prompts)} prompts{length}{escape(skipped)}")
    for prompt in benchmark.prompts:
        _show_prompt(console, prompt)


def _show_prompt(console: Console, prompt: Prompt) -> None:
    about = ", ".join(filter(None, [prompt.modality, prompt.language, prompt.category]))
    console.print(f"[bold]{escape(prompt.id)}[/bold] [dim]{escape(about)}[/dim]".translate(_CONTROLS))
    asked = [f"{message.role}: {''.join(map(_text, message.content))}" for message in prompt.conversation.messages]
    for line in [*asked, *(f"then: {turn}" for turn in prompt.follow_ups)]:
        console.print(f"  {line}".translate(_CONTROLS), markup=False, highlight=False)


def _text(part: Part) -> str:
    return part.text if isinstance(part, TextPart) else f"<{getattr(part, 'image', 'video')}>"
