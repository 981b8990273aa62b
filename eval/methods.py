"""Ways to write the same answers, timed alike: our loop with and without a draft, transformers' generate, prompt lookup."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lookup import LookupDecoder
from transformers import StoppingCriteria, StoppingCriteriaList

from vlm_eagle.decoding.cycle import Decoder
from vlm_eagle.decoding.generate import Generation, Settings, run
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Timed:
    """B answers and how long they took.

    Attributes:
        tokens: ids of each answer, end token included.
        first: seconds until the first token of all answers, images and prompt included.
        total: seconds until the last.
        stats: of our own loop; None elsewhere.
    """

    tokens: list[list[int]]
    first: float
    total: float
    stats: AcceptanceStats | None = None

    @property
    def decoded(self) -> int:
        """Tokens written after the first of each answer."""
        return sum(len(answer) - 1 for answer in self.tokens)


Method = Callable[[Batch], Timed]


def our_loop(target: Target, draft: Eagle3Draft | None, **options: Any) -> Method:
    """Our decoding loop; options are the fields of `Settings`."""
    settings = Settings(**options)
    sampler = Sampler(settings.sampling)
    return _in_our_loop(
        target, lambda: Decoder(target, draft, settings.shape, sampler, drawn_drafts=settings.drawn_drafts), settings
    )


def prompt_lookup(target: Target, sampling: Sampling, **options: Any) -> Method:
    """Prompt lookup in our loop; options are the fields of `Settings`."""
    return _in_our_loop(target, lambda: LookupDecoder(target, Sampler(sampling)), Settings(sampling=sampling, **options))


def _in_our_loop(target: Target, build: Callable[[], Decoder], settings: Settings) -> Method:
    """One decoder per batch size, kept between prompts as a server would; each prompt is read from its beginning."""
    decoders: dict[int, Decoder] = {}

    def timed(prompts: Batch) -> Timed:
        answers, stats = [Generation() for _ in range(len(prompts))], AcceptanceStats()
        decoder = decoders[len(prompts)] = decoders.get(len(prompts)) or build()
        decoder.forget()
        clock = Clock(target.device)
        for _ in run(decoder, prompts, settings, answers):
            clock.mark_first()
        total = clock.seconds()
        for answer in answers:
            stats += answer.stats
        return Timed([answer.tokens for answer in answers], clock.first, total, stats)

    return timed


def transformers_generate(target: Target, max_new_tokens: int, **options: Any) -> Method:
    """`model.generate`; options go to it."""

    def timed(prompts: Batch) -> Timed:
        order = prompts.attention_mask.argsort(dim=1, stable=True)  # padding to the left
        pixels = dict(prompts.pixels)
        if "mm_token_type_ids" in pixels:
            pixels["mm_token_type_ids"] = pixels["mm_token_type_ids"].gather(1, order)
        clock = Clock(target.device)
        output = target.model.generate(
            input_ids=prompts.input_ids.gather(1, order), attention_mask=prompts.attention_mask.gather(1, order),
            max_new_tokens=max_new_tokens, stopping_criteria=StoppingCriteriaList([clock]), **pixels, **options,
        )  # fmt: skip
        total = clock.seconds()
        answers = output[:, prompts.input_ids.shape[1] :].tolist()
        return Timed([_until_end(answer, target.eos_ids) for answer in answers], clock.first, total)

    return timed


class Clock(StoppingCriteria):
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
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _until_end(answer: list[int], eos_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(answer) if token in eos_ids), len(answer) - 1)
    return answer[: end + 1]
