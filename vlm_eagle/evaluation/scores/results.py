"""The one JSON form of every evaluation, in our loop or on a server, and the sums in it.

    {"schema": "vlm_eagle.eval/1", "scored": digest, "run": {command, versions, ...}, "settings": [Setting], "speed": [Speed]}

A setting is one column of a table: one draft, tree and sampling over all benchmarks. Everything summed can be counted again
from its prompts' rows: tokens = sum of `committed`, forwards = length of `committed`, position i accepted = `accepted` >= i.
A Speed (`speedup.py` alone) is described in `timing/speeds.py`. `scored` (`acc_length.py` alone) identifies all that the
settings depend on: where it is unchanged there is nothing to do.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.scores.breakdowns import answer_lengths, breakdowns
from vlm_eagle.evaluation.scores.intervals import interval, mean_interval, prompt_units, ratio

SCHEMA = "vlm_eagle.eval/1"


class PromptRow(TypedDict, total=False):
    """One turn of one prompt.

    Attributes:
        id: unique within the benchmark.
        question: the text of the user's last message, shortened.
        images: files, relative to the JSON's folder where they are inside it.
        language: ISO 639-1.
        modality: text, image, multi-image or video.
        category: the benchmark's own; null where it has none.
        turn: 0, 1 ...: which answer of the conversation.
        output_token_ids: the answer, end token included; null where a server gives none.
        pieces: the text that each token completes, a special token's its name; joined they are the answer and its end.
        committed: tokens each verification forward committed, in order; the first token of an answer is the prefill's.
        accepted: how many of each forward's were proposed by the draft.
        num_forwards: verification forwards.
        num_committed: tokens they committed.
        accepted_at: servers, which do not say `committed` and `accepted`: forwards that accepted position i.
        text: servers: the answer.
    """

    id: str
    question: str
    images: list[str]
    language: str
    modality: str
    category: str | None
    turn: int
    output_token_ids: list[int] | None
    pieces: list[str]
    committed: list[int]
    accepted: list[int]
    num_forwards: int
    num_committed: int
    accepted_at: list[int]
    text: str


class Summary(TypedDict):
    """Sums and their ratios, wherever some rows are put together.

    Attributes:
        tokens: committed by verification forwards.
        forwards: of the target, the prefill not counted.
        acceptance_length: tokens / forwards.
        interval: [low, high], 95 %, bootstrap over prompts; null for fewer than two.
        by_position: P(i-th proposed token accepted).
        conditional: P(i-th proposed token accepted, given those before).
    """

    tokens: int
    forwards: int
    acceptance_length: float
    interval: list[float] | None
    by_position: list[float]
    conditional: list[float]


def stats_of(row: PromptRow, depth: int) -> AcceptanceStats:
    """What one turn took; `depth` is the tree's."""
    if "committed" not in row:
        return AcceptanceStats(row["num_forwards"], row["num_committed"], list(row["accepted_at"]))
    stats = AcceptanceStats()
    for tokens, accepted in zip(row["committed"], row["accepted"], strict=True):
        stats.record(accepted, tokens, depth)
    return stats


def summary(groups: Sequence[Sequence[PromptRow]], depth: int) -> Summary:
    """The sums over rows, given by benchmark."""
    stats = AcceptanceStats()
    for row in (row for rows in groups for row in rows):
        stats += stats_of(row, depth)
    return {
        "tokens": stats.tokens, "forwards": stats.forwards, "acceptance_length": stats.acceptance_length,
        "interval": interval([prompt_units(rows) for rows in groups if rows], ratio),
        "by_position": stats.by_position, "conditional": stats.conditional,
    }  # fmt: skip


def benchmark_result(
    name: str, rows: list[PromptRow], skipped: Mapping[str, int], *, depth: int, max_new_tokens: int
) -> dict[str, Any]:
    """One benchmark in one setting: its sums, its answers' lengths and their limit, what was skipped, its rows."""
    return {
        "name": name, **summary([rows], depth), "answer_tokens": answer_lengths(rows), "max_new_tokens": max_new_tokens,
        "skipped": dict(skipped), "prompts": rows,
    }  # fmt: skip


def setting_result(head: dict[str, Any], benchmarks: list[dict[str, Any]]) -> dict[str, Any]:
    """One setting: what was drafted and how tokens were chosen, the sums over all benchmarks, and these.

    `average_acceptance_length` is the mean of the benchmarks' acceptance lengths, which model cards give; `totals` has tokens
    over forwards.
    """
    groups = [benchmark["prompts"] for benchmark in benchmarks]
    lengths = [benchmark["acceptance_length"] for benchmark in benchmarks]
    return {
        **head,
        "average_acceptance_length": sum(lengths) / len(lengths),
        "average_interval": mean_interval([prompt_units(rows) for rows in groups]),
        "totals": summary(groups, head["num_steps"]),
        "breakdowns": breakdowns(groups),
        "benchmarks": benchmarks,
    }


def document(run: dict[str, Any], settings: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The whole file."""
    return {"schema": SCHEMA, **more, "run": run, "settings": settings}


def read_document(file: Path) -> dict[str, Any]:
    """A file of results.

    Raises:
        UserError: there is none, or of another form.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error}.") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}). Give results of vlm-eagle score or speedup.") from None
    schema = row.get("schema") if isinstance(row, dict) else None
    if schema != SCHEMA:
        raise UserError(f"{file} holds no results of the form {SCHEMA!r} (found {schema!r}). Score again with this version.")
    return row
