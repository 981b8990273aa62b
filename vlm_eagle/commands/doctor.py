"""Examines a draft against its target: what is wrong, why it matters, what to do. "Acceptance length is 1" starts here.

    vlm-eagle doctor
    vlm-eagle doctor --target Qwen/Qwen3-VL-2B-Instruct --draft my-draft --prompts my_prompts.jsonl --json doctor.json

The exit code is 0 for a healthy draft, 1 if problems were found, 2 if it cannot be examined.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from vlm_eagle.cli import check_output
from vlm_eagle.config import DEMO, draft_for
from vlm_eagle.data.conversation import BadRow, Conversation, user_message
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import describe_run, write_json

if TYPE_CHECKING:
    from vlm_eagle.interop.doctor.raw_draft import RawDraft
    from vlm_eagle.interop.doctor.report import Report

_ILL = 1  # exit code
_DEMO_START = 300_000  # demo samples that nothing was trained on
_QUESTIONS = (
    "Explain in three sentences how a rainbow forms.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 180 km in 2.5 hours. What is its average speed? Show the steps.",
    "List five things to pack for a week in the mountains.",
    "Translate into French: The library opens at nine and closes at six.",
    "用三句话介绍一下长城。",
    "What is the difference between a virus and a bacterium?",
    "Write a short story about a lighthouse keeper who finds a letter.",
)


@dataclass(kw_only=True)
class Config:
    """What to examine.

    Attributes:
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft; auto for the demo's own.
        prompts: JSONL files of conversations; none takes the held-out data of the run that made the draft, if run.json beside
            it names any, for the demo target its tasks, and some questions otherwise.
        limit: prompts at most.
        max_new_tokens: longest answer.
        static: only read files; the target's weights are not loaded.
        llm_only: never run the target's vision tower; prompts with images are left out.
        dtype: of the target; auto is float32 on a CPU and the checkpoint's elsewhere.
        device: auto takes a GPU when there is one.
        json: file for the report.
    """

    target: str = DEMO
    draft: str = "auto"
    prompts: list[str] = field(default_factory=list)
    limit: int = 28
    max_new_tokens: int = 64
    static: bool = False
    llm_only: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    json: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UserError(f"--limit counts prompts, so it is at least 1, found {self.limit}.")
        self.draft = draft_for(self.target, self.draft)


def main(config: Config) -> int:
    """Prints the report and writes it; the exit code is that of the examination."""
    from vlm_eagle.interop.doctor.examination import examine
    from vlm_eagle.interop.doctor.raw_draft import read_raw
    from vlm_eagle.interop.doctor.report import Report
    from vlm_eagle.interop.doctor.target_facts import TargetFacts
    from vlm_eagle.target.load import read_config

    if config.json:
        check_output(config.json)
    draft, run = read_raw(config.draft), _run_of(config.draft)
    if config.static:
        report = Report(examine(draft, TargetFacts.of(read_config(config.target))), unmeasured="--static")
    else:
        report = _measured(config, draft, run)
    Console().print(report)
    if config.json:
        write_json(Path(config.json), {"run": describe_run(config=asdict(config)), **report.to_json()})
    return 0 if report.healthy else _ILL


def _measured(config: Config, draft: "RawDraft", run: dict[str, Any]) -> "Report":
    from vlm_eagle.devices import model_dtype, named_device
    from vlm_eagle.interop.doctor.examination import diagnose
    from vlm_eagle.target.load import load_target

    device = named_device(config.device)
    dtype = model_dtype(config.dtype, device)
    llm_only = config.llm_only or bool(run.get("llm_only"))
    target = load_target(config.target, dtype=dtype, device=device, llm_only=llm_only, layer_ids=(0, 1, 2))
    prompts, skipped = _prompts(config, run, text_only=llm_only or not target.is_vision)
    settings = run.get("draft")
    merged = isinstance(settings, dict) and settings.get("image_inputs") == "visual_embeds"
    image_inputs = "visual_embeds" if merged else "token"
    report = diagnose(target, draft, prompts, max_new_tokens=config.max_new_tokens, image_inputs=image_inputs)
    report.skipped += skipped
    return report


def _run_of(draft: str) -> dict[str, Any]:
    """The settings of the run that made a draft, from run.json beside its folder."""
    try:
        config = json.loads((Path(draft).resolve().parent / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def _prompts(config: Config, run: dict[str, Any], text_only: bool) -> tuple[list[Conversation], Counter[str]]:
    """What to ask, spread evenly over what there is, and by reason what was left out."""
    if config.prompts:
        rows = [row for name in config.prompts for row in read_conversations(Path(name))]
    else:
        data = run.get("data")
        held_out = data.get("held_out") if isinstance(data, dict) else None
        files = [Path(name) for name in held_out or [] if isinstance(name, str) and Path(name).is_file()]
        rows = [row for file in files for row in read_conversations(file)]
    if not rows and config.target == DEMO:
        count = -(-config.limit // len(mix.TASKS))
        rows = [mix.sample(task, _DEMO_START + i) for task in mix.TASKS for i in range(count)]
    if not rows:
        rows = [Conversation(f"question-{i}", (user_message(text),), "built in") for i, text in enumerate(_QUESTIONS)]
    usable, skipped = [], Counter()
    for row in rows:
        if isinstance(row, BadRow):
            skipped[row.reason] += 1
        elif text_only and row.has_media:
            skipped["has media"] += 1
        else:
            usable.append(row.prompt())
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise UserError(f"None of {len(rows)} prompts can be used ({reasons}). Give others with --prompts.")
    limit = min(config.limit, len(usable))
    return [usable[i * len(usable) // limit] for i in range(limit)], skipped
