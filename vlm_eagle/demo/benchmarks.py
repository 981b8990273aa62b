"""The demo's benchmarks by name, and any JSONL file of conversations by path. (Others: `vlm_eagle/evaluation/benchmarks/`.)"""

from pathlib import Path

from vlm_eagle.data.benchmark import Benchmark, Prompt, chinese_or_english
from vlm_eagle.data.conversation import BadRow, Conversation, Message, TextPart
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_benchmarks
from vlm_eagle.errors import UserError

DEMO_FOLDER = Path("outputs/demo/data/benchmarks")
DEMO_PROMPTS = 64  # in each demo benchmark's file
DEMO_LIMIT = 16  # of them, unless a limit is given


def default_names(text_only: bool) -> list[str]:
    """The demo benchmarks, or those without images."""
    return list(mix.TEXT_TASKS if text_only else mix.TASKS)


def load_benchmark(name: str, limit: int | None = None) -> Benchmark:
    """A demo benchmark by name (16 prompts unless `limit` says otherwise, at most 64), or a JSONL file by path.

    Raises:
        UserError: neither, or a file without one usable prompt.
    """
    if name in mix.TASKS:
        file = DEMO_FOLDER / f"{name}.jsonl"
        limit = limit or DEMO_LIMIT
        if not file.is_file():
            write_benchmarks(DEMO_FOLDER, DEMO_PROMPTS)
    elif Path(name).is_file():
        file, name = Path(name), Path(name).stem
    else:
        raise UserError(f"{name!r} is neither a demo benchmark ({', '.join(mix.TASKS)}) nor a JSONL file of conversations.")
    benchmark = Benchmark(name, [])
    for row in read_conversations(file):
        if not isinstance(row, BadRow) and _is_blank(row.prompt()):
            row = BadRow(row.source, "empty question", "the user's last message has neither text nor media")
        if isinstance(row, BadRow):
            benchmark.skipped[row.reason] = benchmark.skipped.get(row.reason, 0) + 1
        elif limit is None or len(benchmark.prompts) < limit:
            benchmark.prompts.append(_prompt(row))
    if not benchmark.prompts:
        raise UserError(f"{file} holds no usable prompt (skipped: {benchmark.skipped or 'nothing, the file is empty'}).")
    return benchmark


def _prompt(row: Conversation) -> Prompt:
    """The row's conversation up to the user's last message."""
    conversation = row.prompt()
    return Prompt(conversation, language=chinese_or_english(_text(conversation.messages[-1])))


def _is_blank(prompt: Conversation) -> bool:
    question = prompt.messages[-1]
    return not _text(question).strip() and all(isinstance(part, TextPart) for part in question.content)


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))
