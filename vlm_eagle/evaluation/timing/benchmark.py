"""Methods timed one after the other on each batch, so that all of them meet the machine in the same state."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.evaluation.methods import Method, Timed
from vlm_eagle.evaluation.scores.journal import EvaluationJournal, digest
from vlm_eagle.evaluation.scores.prompts import content, seed_of
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class BenchmarkTurn:
    """One turn of a prompt, ready to be answered by every method."""

    benchmark: str
    prompt: Prompt
    number: int
    conversation: Conversation
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Timing:
    """One batch by one method. `repeat` counts the passes over all batches; `turns` are (prompt id, turn) of its rows."""

    benchmark: str
    turns: tuple[tuple[str, int], ...]
    method: str
    repeat: int
    timed: Timed


class TimedWorkload:
    """Prompts as batches. Later turns are asked after one and the same answer, `answer`'s, whichever method is timed.

    Attributes:
        skipped: benchmark -> reason -> count of turns that cannot be asked.
    """

    def __init__(self, target: Target, answer: Method, *, seed: int, llm_only: bool, thinking: bool):
        self.target, self.answer, self.seed = target, answer, seed
        self.collator = VisionCollator(target.processor, for_generation=True, llm_only=llm_only, thinking=thinking)
        self.skipped: dict[str, Counter[str]] = {}

    def turns(self, benchmark: Benchmark, prompts: Sequence[Prompt], max_new_tokens: int) -> list[BenchmarkTurn]:
        """All turns of some of a benchmark's prompts that can be asked."""
        found = []
        for prompt in prompts:
            asked, identity = prompt.conversation, content(prompt)
            for number in range(len(prompt.follow_ups) + 1):
                turn = BenchmarkTurn(
                    benchmark.name, prompt, number, asked, seed_of(self.seed, identity, number), max_new_tokens
                )
                try:
                    batch = self.batch([turn])
                except BadRow as error:
                    reason = ("later turn: " if number else "") + error.reason
                    self.skipped.setdefault(benchmark.name, Counter())[reason] += 1
                    break
                found.append(turn)
                if number < len(prompt.follow_ups):
                    tokens = self.answer(batch, [turn.seed], max_new_tokens).tokens[0]
                    text = str(self.target.tokenizer.decode(tokens, skip_special_tokens=True))
                    asked = asked.answered(text).asked(prompt.follow_ups[number])
        return found

    def batch(self, turns: Sequence[BenchmarkTurn]) -> Batch:
        """Some turns side by side.

        Raises:
            BadRow: one cannot be read.
        """
        self.collator.max_length = self.target.config.max_position_embeddings - turns[0].max_new_tokens
        samples = [(turn.prompt.id, self.collator.encode(turn.conversation)) for turn in turns]
        return self.collator.stack(samples, {}).to(self.target.device)


def groups_of(turns: Sequence[BenchmarkTurn], size: int) -> list[list[BenchmarkTurn]]:
    """Neighbours of one benchmark, `size` side by side."""
    found = []
    for _, same in groupby(turns, key=lambda turn: turn.benchmark):
        row = list(same)
        found += [row[i : i + size] for i in range(0, len(row), size)]
    return found


def run_benchmark(
    methods: Mapping[str, Method], workload: TimedWorkload, groups: Sequence[list[BenchmarkTurn]], repeats: int,
    done: Callable[[], None], journal: EvaluationJournal, identity: Any,
) -> list[Timing]:  # fmt: skip
    """Every group by every method in turn, in an order that changes from group to group. Before, every method runs once on a
    group of each size, untimed. Groups that the journal holds under `identity` (all that timings depend on besides the prompts)
    are not run again: a group is timed by all methods in one go, or not at all."""
    names, timings = list(methods), []
    keys = [[digest([identity, repeat, *map(_identity, group)]) for group in groups] for repeat in range(repeats)]
    waiting = [group for row in keys for key, group in zip(row, groups, strict=True) if key not in journal.found]
    for group in {len(group): group for group in waiting}.values():
        for name in names:
            _run(methods[name], workload, group)
    for repeat, row in enumerate(keys):
        for i, (key, group) in enumerate(zip(row, groups, strict=True)):
            timed = journal.found.get(key)
            if timed is None:
                shift = (i + repeat) % len(names)
                order = names[shift:] + names[:shift]
                timed = {name: asdict(_run(methods[name], workload, group)) for name in order}
                journal.record(key, timed)
            turns = tuple((turn.prompt.id, turn.number) for turn in group)
            timings += [Timing(group[0].benchmark, turns, name, repeat, Timed(**took)) for name, took in timed.items()]
            done()
    return timings


def _identity(turn: BenchmarkTurn) -> list[Any]:
    return [turn.benchmark, content(turn.prompt), turn.number, turn.seed, turn.max_new_tokens]


def _run(method: Method, workload: TimedWorkload, group: Sequence[BenchmarkTurn]) -> Timed:
    return method(workload.batch(group), [turn.seed for turn in group], group[0].max_new_tokens)
