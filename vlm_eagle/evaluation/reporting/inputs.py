"""What the report is made of: the settings and timings of several result files, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.result_schema import AcceptanceResult, BenchmarkResult, Results, SpeedResult, TurnResult, read_results


@dataclass
class ReportInput:
    """Everything in the files.

    Attributes:
        settings: columns of the acceptance table.
        setting_files: where each comes from.
        speeds: timed settings.
        speed_files: where each comes from.
        runs: per file its path and facts about the run, in words.
        notes: what does not add up, as sentences for the page.
    """

    settings: list[AcceptanceResult] = field(default_factory=list)
    setting_files: list[Path] = field(default_factory=list)
    speeds: list[SpeedResult] = field(default_factory=list)
    speed_files: list[Path] = field(default_factory=list)
    runs: list[tuple[Path, list[tuple[str, str]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_inputs(files: Sequence[Path]) -> ReportInput:
    """All settings of all files, in order. What speedup counted beside its timings is left out if score counted the same.

    Raises:
        UserError: a file that is not a result file, or nothing in any of them.
    """
    found, read = ReportInput(), [(file, read_results(file)) for file in files]
    counted = {setting.key for _, results in read if not results.speed for setting in results.settings}
    for file, results in read:
        found.runs.append((file, _facts(results)))
        found.speeds += results.speed
        found.speed_files += [file] * len(results.speed)
        for number, setting in enumerate(results.settings):
            if results.speed and setting.key in counted:
                found.notes.append("Acceptance is that of vlm-eagle score; what speedup counted of the same is not shown.")
                continue
            found.settings.append(setting)
            found.setting_files.append(file)
            found.notes += [f"{name}: no prompt was answered: {', '.join(why)}." for name, why in setting.unanswered.items()]
            for benchmark in setting.benchmarks:
                found.notes += _check(benchmark, f"{file}, setting {number + 1}, {benchmark.name}")
    if not found.settings and not found.speeds:
        raise UserError(f"{', '.join(map(str, files))}: no setting was measured. Run vlm-eagle score or speedup first.")
    return found


def is_shown(turn: TurnResult) -> bool:
    """Whether it is known who wrote each token."""
    return None not in (turn.pieces, turn.committed, turn.accepted)


def _check(benchmark: BenchmarkResult, place: str) -> list[str]:
    """What contradicts itself, in words; the texts of such turns are dropped."""
    notes, turns = [], benchmark.prompts
    broken = [turn for turn in turns if is_shown(turn) and not _is_consistent(turn)]
    if broken:
        notes.append(
            f"{place}: {len(broken)} of {len(turns)} samples are not shown, because pieces, committed, accepted and "
            f"output_token_ids disagree (the first: {broken[0].id})."
        )
    for turn in broken:
        turn.pieces = turn.committed = turn.accepted = None
    sums = sum(turn.num_committed for turn in turns), sum(turn.num_forwards for turn in turns)
    if turns and sums != (benchmark.tokens, benchmark.forwards):
        notes.append(
            f"{place}: the file says {benchmark.tokens} tokens in {benchmark.forwards} forwards, its prompts add up to "
            f"{sums[0]} in {sums[1]}."
        )
    return notes


def _is_consistent(turn: TurnResult) -> bool:
    length, committed, accepted = 1 + turn.num_committed, turn.committed or [], turn.accepted or []
    return (
        len(turn.pieces or ()) == len(turn.output_token_ids or ()) == length
        and sum(committed) + 1 == length
        and len(accepted) == len(committed) == turn.num_forwards
        and all(0 <= c - a <= 1 and c > 0 for a, c in zip(accepted, committed, strict=True))
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """About the run, in words; only what is there."""
    facts = []
    for key, title in (
        ("command", "Command"), ("started", "Started"), ("git_commit", "Commit"), ("versions", "Versions"),
        ("machine", "Machine"),
    ):  # fmt: skip
        value = results.run.get(key)
        if isinstance(value, dict):
            value = ", ".join(f"{name.replace('_', ' ')} {item}" for name, item in value.items() if item is not None)
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        if value:
            facts.append((title, str(value)))
    return facts
