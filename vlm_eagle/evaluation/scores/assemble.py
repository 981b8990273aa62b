"""From outcomes, prompt by prompt, to the settings of the results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import in_words
from vlm_eagle.evaluation.result_schema import AcceptanceResult, TurnResult
from vlm_eagle.evaluation.scores.our_column import pieces_of
from vlm_eagle.evaluation.scores.prompts import image_files, question
from vlm_eagle.evaluation.scores.scoring import Column, PromptOutcome, Task
from vlm_eagle.evaluation.scores.sums import acceptance_result, benchmark_result

Planned = Sequence[tuple[Benchmark, int, Sequence[Task]]]  # with the longest answer


def assemble(
    column: Column, planned: Planned, outcomes: Mapping[str, PromptOutcome], tokenizer: Any, out: Path
) -> AcceptanceResult:
    """One setting. A benchmark of which no prompt was answered is left out and named under `unanswered`.

    Raises:
        UserError: nothing was answered in any benchmark.
    """
    benchmarks, unanswered, last, depth = [], {}, "", column.head["num_steps"]
    for benchmark, limit, tasks in planned:
        skipped, turns = Counter(benchmark.skipped), []
        for task in tasks:
            outcome = outcomes[task.key]
            turns += turn_results(task.prompt, outcome.turns, tokenizer, out)
            if outcome.skipped:
                skipped[outcome.skipped] += 1
                last = outcome.detail
        if turns:
            benchmarks.append(benchmark_result(benchmark.name, turns, skipped, depth=depth, max_new_tokens=limit))
        else:
            unanswered[benchmark.name] = dict(skipped)
    if not benchmarks:
        reasons = "; ".join(f"{name}: {in_words(skipped)}" for name, skipped in unanswered.items())
        raise UserError(f"Every prompt was skipped. {reasons}. The last: {last}")
    return acceptance_result({**column.head, "unanswered": unanswered}, benchmarks)


def turn_results(prompt: Prompt, turns: Sequence[dict[str, Any]], tokenizer: Any, out: Path) -> list[TurnResult]:
    """A prompt's turns, each with what the prompt says of itself."""
    asked = [prompt.conversation, *(prompt.conversation.asked(text) for text in prompt.follow_ups)]
    results = []
    for turn in turns:
        tokens = turn["output_token_ids"]
        results.append(
            TurnResult(
                id=prompt.id, question=question(asked[turn["turn"]]), images=image_files(prompt.conversation, out),
                language=prompt.language, modality=prompt.modality, category=prompt.category,
                pieces=None if tokens is None else pieces_of(tokenizer, tokens), **turn,
            )
        )  # fmt: skip
    return results


def compare_answers(setting: AcceptanceResult, alone: AcceptanceResult) -> None:
    """Counts, in the setting's benchmarks and totals, answers that equal the target's own (another setting without a draft)."""
    own = {(b.name, turn.id, turn.turn): turn.output_token_ids for b in alone.benchmarks for turn in b.prompts}
    totals = setting.totals
    totals.answers = totals.equal_to_target_alone = 0
    for benchmark in setting.benchmarks:
        equal = [own[benchmark.name, turn.id, turn.turn] == turn.output_token_ids for turn in benchmark.prompts]
        benchmark.answers, benchmark.equal_to_target_alone = len(equal), sum(equal)
        totals.answers += len(equal)
        totals.equal_to_target_alone += sum(equal)


def checked(settings: list[AcceptanceResult]) -> list[AcceptanceResult]:
    """The settings with a draft; greedy ones compared with the one without, if there is one."""
    is_alone = lambda setting: setting.draft is None and setting.engine is None  # a server does not say its draft
    drafted = [setting for setting in settings if not is_alone(setting)]
    for alone in filter(is_alone, settings):
        for setting in drafted:
            if setting.sampling["temperature"] == 0:
                compare_answers(setting, alone)
    return drafted
