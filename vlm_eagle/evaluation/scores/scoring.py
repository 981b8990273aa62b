"""Prompts through a column of the table: turn by turn, a few side by side, with a memory of what is done."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.evaluation.scores.journal import EvaluationJournal, digest
from vlm_eagle.evaluation.scores.prompts import content, seed_of

LATER_TURN = "later turn: "  # begins the reason for which a conversation was ended early


@dataclass(frozen=True)
class TurnRequest:
    """One turn to answer."""

    conversation: Conversation
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Skip:
    """Why a question was not answered: a short reason to count by, and the whole story."""

    reason: str
    detail: str


@dataclass(frozen=True)
class TurnAnswer:
    """One turn's answer: `text` goes into the next turn, `row` holds what decoding decides of a `TurnResult`."""

    text: str
    row: dict[str, Any]


class Column(Protocol):
    """Who answers: one draft, tree and sampling in our loop, or a server.

    Attributes:
        head: what describes the column in the results.
        identity: everything its answers depend on besides the question, as JSON.
        batch_size: questions answered at a time.
    """

    head: dict[str, Any]
    identity: dict[str, Any]
    batch_size: int

    def answer(self, questions: Sequence[TurnRequest]) -> list[TurnAnswer | Skip]:
        """As many answers as questions; none may depend on the others."""
        ...


@dataclass
class PromptOutcome:
    """What became of a prompt: a row per answered turn, and why it ended early if it did."""

    turns: list[dict[str, Any]] = field(default_factory=list)
    skipped: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Task:
    """One prompt for one column. `key` is the journal's."""

    column: Column
    prompt: Prompt
    identity: str
    max_new_tokens: int
    seed: int

    @cached_property
    def key(self) -> str:
        """Of everything that the outcome depends on."""
        return digest([self.column.identity, self.identity, self.max_new_tokens, self.seed])


def tasks_of(column: Column, benchmark: Benchmark, max_new_tokens: int, seed: int) -> list[Task]:
    """A benchmark's prompts for a column, in order."""
    return [Task(column, prompt, content(prompt), max_new_tokens, seed) for prompt in benchmark.prompts]


def work(tasks: Sequence[Task], journal: EvaluationJournal, done: Callable[[int], None]) -> dict[str, PromptOutcome]:
    """Outcomes by key of all tasks, those in the journal taken from there. `done(tokens)` is called for each prompt."""
    known = {task.key: PromptOutcome(**journal.found[task.key]) for task in tasks if task.key in journal.found}
    unique = {task.key: task for task in tasks}  # prompts that stand in a file twice have one outcome
    waiting = [task for key, task in unique.items() if key not in known]
    for _ in range(len(tasks) - len(waiting)):
        done(0)
    outcomes = dict(known)
    for group in _groups(waiting):
        for task, outcome in zip(group, _converse(group), strict=True):
            journal.record(task.key, asdict(outcome))
            outcomes[task.key] = outcome
            done(sum(row["num_committed"] for row in outcome.turns))
    return outcomes


def _groups(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Neighbours of one column and one limit, as many as it takes side by side."""
    group: list[Task] = []
    for task in tasks:
        first = group[0] if group else task
        same = task.column is first.column and task.max_new_tokens == first.max_new_tokens
        if group and (not same or len(group) == first.column.batch_size):
            yield group
            group = []
        group.append(task)
    if group:
        yield group


def _converse(group: Sequence[Task]) -> list[PromptOutcome]:
    """All turns of some prompts of one column: each later question is asked after the answer to the one before."""
    outcomes = [PromptOutcome() for _ in group]
    asked = [task.prompt.conversation for task in group]
    going = list(range(len(group)))
    turn = 0
    while going:
        questions = [
            TurnRequest(asked[i], seed_of(group[i].seed, group[i].identity, turn), group[i].max_new_tokens) for i in going
        ]
        answers = group[0].column.answer(questions)
        more = []
        for i, answer in zip(going, answers, strict=True):
            if isinstance(answer, Skip):
                outcomes[i].skipped = (LATER_TURN if turn else "") + answer.reason
                outcomes[i].detail = answer.detail
                continue
            outcomes[i].turns.append({"turn": turn, **answer.row})
            if turn < len(group[i].prompt.follow_ups):
                asked[i] = asked[i].answered(answer.text).asked(group[i].prompt.follow_ups[turn])
                more.append(i)
        going, turn = more, turn + 1
    return outcomes
