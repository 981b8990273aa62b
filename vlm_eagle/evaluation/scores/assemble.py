"""From outcomes, prompt by prompt, to the settings of the results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import in_words
from vlm_eagle.evaluation.scores.columns import pieces_of
from vlm_eagle.evaluation.scores.prompts import image_files, question
from vlm_eagle.evaluation.scores.results import PromptRow, benchmark_result, setting_result
from vlm_eagle.evaluation.scores.scoring import Column, Outcome, Task

Planned = Sequence[tuple[Benchmark, int, Sequence[Task]]]  # with the longest answer


def assemble(column: Column, planned: Planned, outcomes: Mapping[str, Outcome], tokenizer: Any, out: Path) -> dict[str, Any]:
    """One setting. A benchmark of which no prompt was answered is left out and named under `unanswered`.

    Raises:
        UserError: nothing was answered in any benchmark.
    """
    benchmarks, unanswered, last, depth = [], {}, "", column.head["num_steps"]
    for benchmark, limit, tasks in planned:
        skipped, rows = Counter(benchmark.skipped), []
        for task in tasks:
            outcome = outcomes[task.key]
            rows += prompt_rows(task.prompt, outcome.turns, tokenizer, out)
            if outcome.skipped:
                skipped[outcome.skipped] += 1
                last = outcome.detail
        if rows:
            benchmarks.append(benchmark_result(benchmark.name, rows, skipped, depth=depth, max_new_tokens=limit))
        else:
            unanswered[benchmark.name] = dict(skipped)
    if not benchmarks:
        reasons = "; ".join(f"{name}: {in_words(skipped)}" for name, skipped in unanswered.items())
        raise UserError(f"Every prompt was skipped. {reasons}. The last: {last}")
    return {**setting_result(column.head, benchmarks), **({"unanswered": unanswered} if unanswered else {})}


def prompt_rows(prompt: Prompt, turns: Sequence[dict[str, Any]], tokenizer: Any, out: Path) -> list[PromptRow]:
    """A prompt's turns, each with what the prompt says of itself."""
    asked = [prompt.conversation, *(prompt.conversation.asked(text) for text in prompt.follow_ups)]
    about = {"language": prompt.language, "modality": prompt.modality, "category": prompt.category}
    rows = []
    for turn in turns:
        conversation = asked[turn["turn"]]
        images = image_files(prompt.conversation, out)
        tokens = turn["output_token_ids"]
        pieces = {} if tokens is None else {"pieces": pieces_of(tokenizer, tokens)}
        rows.append({"id": prompt.id, "question": question(conversation), "images": images, **about, **turn, **pieces})
    return rows


def compare_answers(setting: dict[str, Any], alone: dict[str, Any]) -> None:
    """Counts, in the setting's benchmarks and totals, answers that equal the target's own (another setting without a draft)."""
    own = {(b["name"], r["id"], r["turn"]): r["output_token_ids"] for b in alone["benchmarks"] for r in b["prompts"]}
    for benchmark in setting["benchmarks"]:
        rows = benchmark["prompts"]
        benchmark["answers"] = len(rows)
        benchmark["equal_to_target_alone"] = sum(
            own[benchmark["name"], row["id"], row["turn"]] == row["output_token_ids"] for row in rows
        )
    for name in ("answers", "equal_to_target_alone"):
        setting["totals"][name] = sum(benchmark[name] for benchmark in setting["benchmarks"])


def checked(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings with a draft; greedy ones compared with the one without, if there is one."""

    is_alone = lambda setting: setting["draft"] is None and "engine" not in setting  # a server does not say its draft
    drafted = [setting for setting in settings if not is_alone(setting)]
    for alone in filter(is_alone, settings):
        for setting in drafted:
            if setting["sampling"]["temperature"] == 0:
                compare_answers(setting, alone)
    return drafted
