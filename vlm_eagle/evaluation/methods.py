"""Methods that write the same answers and are timed alike: our loop with and without a draft, transformers' generate,
prompt lookup."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Protocol

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from vlm_eagle.config import ImageInputs
from vlm_eagle.decoding.decode_loop import NO_DRAFT, DecodeLoop
from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, stream_with
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.devices import wait_for
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.evaluation.lookup import LookupDecoder
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

GREEDY = Sampling()


@dataclass(frozen=True)
class Timed:
    """B answers and how long they took.

    Attributes:
        tokens: ids of each answer, end token included.
        first: seconds until the first token of all answers, images and prompt included.
        total: seconds until the last.
        committed: of each answer, how many tokens each verification forward committed, the first token not among them;
            empty where the method is not ours.
        accepted: likewise, how many of those the draft had proposed.
    """

    tokens: list[list[int]]
    first: float
    total: float
    committed: list[list[int]] = field(default_factory=list)
    accepted: list[list[int]] = field(default_factory=list)

    @property
    def decoded(self) -> int:
        """Tokens written after the first of each answer."""
        return sum(len(answer) - 1 for answer in self.tokens)


class Method(Protocol):
    """Writes B answers: prompts, one seed per prompt, and how long an answer may get."""

    def __call__(self, prompts: Batch, seeds: Sequence[int], max_new_tokens: int) -> Timed:
        """The answers."""
        ...


def our_loop(
    target: Target, draft: Eagle3Draft | None, shape: TreeShape = NO_DRAFT, sampling: Sampling = GREEDY,
    image_inputs: ImageInputs = "token",
) -> Method:  # fmt: skip
    """Our decoding loop; without a draft it writes token by token."""
    settings = Settings(shape=shape, sampling=sampling, image_inputs=image_inputs)
    return _in_our_loop(lambda: build_decoder(target, draft, settings), sampling)


def prompt_lookup(target: Target, sampling: Sampling = GREEDY) -> Method:
    """Prompt lookup in our loop."""
    return _in_our_loop(lambda: LookupDecoder(target, Sampler(sampling)), sampling)


def _in_our_loop(build: Callable[[], DecodeLoop], sampling: Sampling) -> Method:
    """One decoder per batch size, kept between prompts as a server would; each prompt is read from its beginning."""
    decoders: dict[int, DecodeLoop] = {}

    def timed(prompts: Batch, seeds: Sequence[int], max_new_tokens: int) -> Timed:
        answers = [Generation() for _ in range(len(prompts))]
        committed: list[list[int]] = [[] for _ in answers]
        decoder = decoders[len(prompts)] = decoders.get(len(prompts)) or build()
        decoder.reset_cache()
        settings = Settings(sampling=sampling, max_new_tokens=max_new_tokens, seed=list(seeds))
        clock = Stopwatch(decoder.target.device)
        for number, pieces in enumerate(stream_with(decoder, prompts, settings, answers)):
            clock.mark_first()
            for counts, piece in zip(committed, pieces, strict=True):
                if number and piece:  # the first piece is the prefill's; a finished answer gets empty ones
                    counts.append(len(piece))
        total = clock.seconds()
        accepted = [_accepted(a.drafted, counts) for a, counts in zip(answers, committed, strict=True)]
        return Timed([answer.tokens for answer in answers], clock.first, total, committed, accepted)

    return timed


def _accepted(drafted: list[bool], committed: list[int]) -> list[int]:
    """How many of each forward's tokens were the draft's; the first token of `drafted` is the prefill's."""
    ends = list(accumulate(committed, initial=1))
    return [sum(drafted[start:end]) for start, end in pairwise(ends)]


def transformers_generate(target: Target, sampling: Sampling = GREEDY) -> Method:
    """`model.generate`. It draws all rows of a batch from one stream, begun with the first row's seed."""
    options: dict[str, Any] = asdict(sampling) if sampling.temperature else {}

    def timed(prompts: Batch, seeds: Sequence[int], max_new_tokens: int) -> Timed:
        left_padded = prompts.reordered(prompts.attention_mask.argsort(dim=1, stable=True))
        torch.manual_seed(seeds[0])
        clock = Stopwatch(target.device)
        generate: Any = target.model.generate
        output = generate(
            input_ids=left_padded.input_ids, attention_mask=left_padded.attention_mask,
            max_new_tokens=max_new_tokens, do_sample=sampling.temperature > 0,
            stopping_criteria=StoppingCriteriaList([clock]), **left_padded.vision_inputs, **options,
        )  # fmt: skip
        total = clock.seconds()
        answers = output[:, prompts.input_ids.shape[1] :].tolist()
        return Timed([_until_end(answer, target.eos_ids) for answer in answers], clock.first, total)

    return timed


class Stopwatch(StoppingCriteria):
    """A stopwatch that transformers' generate touches after every forward and that never stops it."""

    def __init__(self, device: torch.device):
        self.device, self.first = device, 0.0
        self.started = self._now()

    def seconds(self) -> float:
        """Since the start, once the device has done what it was asked."""
        return self._now() - self.started

    def mark_first(self) -> None:
        """Called after every forward; only the first call counts."""
        if not self.first:
            self.first = self.seconds()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """transformers asks which rows are done: none because of us."""
        self.mark_first()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def _now(self) -> float:
        wait_for(self.device)
        return time.perf_counter()


def _until_end(answer: list[int], eos_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(answer) if token in eos_ids), len(answer) - 1)
    return answer[: end + 1]
