"""The demo's data on disk: prompts with the target's own answers to train on and held out, and benchmark prompts."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from vlm_eagle.data.conversation import Conversation, ImagePart
from vlm_eagle.data.conversation_rows import to_row
from vlm_eagle.demo import mix
from vlm_eagle.provenance import sha256, write_json

logger = logging.getLogger(__name__)

# Disjoint ranges of sample numbers; the target itself was trained on numbers from 10 million on.
BENCHMARK_START, HELD_OUT_START, TRAIN_START = 0, 100_000, 200_000


@dataclass(frozen=True, kw_only=True)
class DemoSizes:
    """How many samples of each kind: `train` by task, `held_out` of each task."""

    train: Mapping[str, int]
    held_out: int = 12
    max_new_tokens: int = 160


def ensure_demo_data(folder: Path, target_folder: Path, sizes: DemoSizes, console: Console) -> None:
    """Makes `train.jsonl` and `held_out.jsonl` in `folder` unless they are there, made by the same target and sizes
    (`manifest.json` says)."""
    made_by = {"target": sha256(sorted(target_folder.glob("*.safetensors"))), "sizes": asdict(sizes)}
    manifest = folder / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text()).get("made_by") == made_by:
        return
    from vlm_eagle.demo.answers import write_answers
    from vlm_eagle.target.load import load_target

    target = load_target(str(target_folder), dtype="float32")
    manifest.unlink(missing_ok=True)
    train = [mix.sample(task, TRAIN_START + i) for task, count in sizes.train.items() for i in range(count)]
    held_out = [mix.sample(task, HELD_OUT_START + i) for task in mix.TASKS for i in range(sizes.held_out)]
    logger.info(f"First the target answers the demo's {len(train + held_out):,} prompts, once for all runs, in {folder}.")
    with Progress(console=console, disable=not console.is_terminal) as progress:
        options = {"max_new_tokens": sizes.max_new_tokens, "batch_size": 64, "progress": progress}
        answered = write_answers(target, train + held_out, **options)
    write_jsonl(folder / "train.jsonl", filter(None, answered[: len(train)]))
    write_jsonl(folder / "held_out.jsonl", filter(None, answered[len(train) :]))
    unfinished = answered.count(None)
    write_json(manifest, {"made_by": made_by, "conversations": len(answered), "dropped": {"answer did not end": unfinished}})
    logger.info(f"The target wrote {len(answered) - unfinished} answers to {folder} ({unfinished} did not end, dropped).")


def write_benchmarks(folder: Path, count: int) -> None:
    """One file of held-out prompts per task, with the reference answers."""
    for task in mix.TASKS:
        samples = (mix.sample(task, BENCHMARK_START + i) for i in range(count))
        write_jsonl(folder / f"{task}.jsonl", samples)


def write_jsonl(file: Path, conversations: Iterable[Conversation]) -> None:
    """Writes conversations with their pictures beside them in `images/`, the JSONL last and atomically."""
    images = file.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".writing")
    with scratch.open("w", encoding="utf-8") as stream:
        for conversation in conversations:
            row = to_row(_with_files(conversation, images), file.parent)
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    scratch.replace(file)


def _with_files(conversation: Conversation, images: Path) -> Conversation:
    """The conversation with its in-memory pictures saved as PNG files."""
    messages, number = [], 0
    for message in conversation.messages:
        parts = []
        for part in message.content:
            if isinstance(part, ImagePart) and isinstance(part.image, Image.Image):
                path = images / f"{conversation.id}-{number}.png"
                part.image.save(path)
                part, number = ImagePart(path), number + 1
            parts.append(part)
        messages.append(replace(message, content=tuple(parts)))
    return replace(conversation, messages=tuple(messages))
