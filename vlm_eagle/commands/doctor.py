"""Examines a draft against its target: what is wrong, why it matters, what to do. "Acceptance length is 1" starts here.

    vlm-eagle doctor
    vlm-eagle doctor --target Qwen/Qwen3-VL-2B-Instruct --draft my-draft --prompts my_prompts.jsonl --json doctor.json

The exit code is 0 without problems, 1 if problems were found, 2 if it cannot be examined.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vlm_eagle.commands.options import PairOptions
from vlm_eagle.config import DEMO
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.demo import mix
from vlm_eagle.doctor import prompts
from vlm_eagle.errors import UserError
from vlm_eagle.interop.run_files import read_beside, settings_of
from vlm_eagle.provenance import check_output, describe_run, write_json

if TYPE_CHECKING:
    from vlm_eagle.doctor.raw_draft import RawDraft
    from vlm_eagle.doctor.report import Report

_DEMO_START = 300_000  # demo samples that nothing was trained on


@dataclass(kw_only=True)
class Config(PairOptions):
    """What to examine.

    Attributes:
        prompts: JSONL files of conversations; none takes the held-out data of the run that made the draft, if run.json beside
            it names any, for the demo target its tasks, and some questions otherwise.
        limit: prompts at most.
        max_new_tokens: longest answer.
        static: only read files; the target's weights are not loaded.
        llm_only: never run the target's vision tower; prompts with images are left out.
        json: file for the report.
    """

    prompts: list[str] = field(default_factory=list)
    limit: int = 28
    max_new_tokens: int = 64
    static: bool = False
    llm_only: bool = False
    json: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UserError(f"--limit counts prompts, so it is at least 1, found {self.limit}.")
        super().__post_init__()


def main(config: Config) -> int:
    """Prints the report and writes it; the exit code is that of the examination."""
    from vlm_eagle.doctor.diagnose import examine
    from vlm_eagle.doctor.raw_draft import read_raw
    from vlm_eagle.doctor.report import Report
    from vlm_eagle.doctor.target_facts import TargetFacts
    from vlm_eagle.target.load import read_config

    if config.json:
        check_output(config.json)
    draft = read_raw(config.draft)
    if config.static:
        report = Report(examine(draft, TargetFacts.of(read_config(config.target))), unmeasured="--static")
    else:
        report = _measure(config, draft)
    Console().print(report)
    if config.json:
        write_json(Path(config.json), {"run": describe_run(config=asdict(config)), **report.to_json()})
    return int(report.problems_found)


def _measure(config: Config, draft: "RawDraft") -> "Report":
    from vlm_eagle.devices import model_dtype, named_device
    from vlm_eagle.doctor.diagnose import diagnose
    from vlm_eagle.target.load import load_target

    training = _training_settings(config.draft)
    device = named_device(config.device)
    dtype = model_dtype(config.dtype, device)
    llm_only = config.llm_only or bool(training.get("llm_only"))
    target = load_target(config.target, dtype=dtype, device=device, llm_only=llm_only, layer_ids=(0, 1, 2))
    chosen, skipped = _prompts(config, training, text_only=llm_only or not target.is_vision)
    trained_as = training.get("draft")
    merged = isinstance(trained_as, dict) and trained_as.get("image_inputs") == "visual_embeds"
    image_inputs = "visual_embeds" if merged else "token"
    report = diagnose(target, draft, chosen, max_new_tokens=config.max_new_tokens, image_inputs=image_inputs)
    report.skipped += skipped
    return report


def _training_settings(draft: str) -> dict[str, Any]:
    try:
        return settings_of(read_beside(draft, "run.json"))
    except (UserError, OSError):  # a broken file does not keep the draft from being examined
        return {}


def _prompts(config: Config, training: dict[str, Any], text_only: bool) -> tuple[list[Conversation], Counter[str]]:
    rows = prompts.read_rows(config.prompts or prompts.held_out_files(training))
    if not rows and config.target == DEMO:
        count = -(-config.limit // len(mix.TASKS))
        rows = [mix.sample(task, _DEMO_START + i) for task in mix.TASKS for i in range(count)]
    return prompts.choose_prompts(rows or prompts.built_in_questions(), config.limit, text_only)
