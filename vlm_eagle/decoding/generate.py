"""The decoding loop as users call it: prompts in, answers out, whole or piece by piece.

One loop for VL and text-only targets, one prompt or a ragged batch, with or without a draft.
"""

import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch

from vlm_eagle.decoding.cycle import Decoder
from vlm_eagle.decoding.plain import PlainDecoder
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.stopping import Stopper
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch, ImageInputs
from vlm_eagle.target.target import Target


@dataclass
class Generation:
    """An answer and what it took to write it.

    Attributes:
        tokens: token ids, the end token included if it was reached.
        drafted: of each token, whether the draft proposed it (otherwise the target added it).
        stats: sums over its verifications.
    """

    tokens: list[int] = field(default_factory=list)
    drafted: list[bool] = field(default_factory=list)
    stats: AcceptanceStats = field(default_factory=AcceptanceStats)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to write an answer.

    Attributes:
        shape: the tree; ignored without a draft.
        sampling: how the target chooses tokens.
        drawn_drafts: for a chain at temperature > 0, draw the draft's tokens from its distribution and verify by rejection
            sampling, instead of taking its argmaxes. Both are exact.
        max_new_tokens: exact limit; the answer also ends with the target's first end token.
        stop_strings: the answer also ends with the token that completes one of these.
        eos_ids: tokens that end an answer; None for the target's own.
        image_inputs: what the draft reads at image tokens: the pad token's embedding (vLLM), or the merged visual one (SGLang).
        seed: of the sampling: a number (row b then draws with seed + b), one per row, or None for a new one every time.
    """

    shape: TreeShape = field(default_factory=lambda: TreeShape(4))
    sampling: Sampling = field(default_factory=Sampling)
    drawn_drafts: bool = False
    max_new_tokens: int = 256
    stop_strings: Sequence[str] = ()
    eos_ids: Set[int] | None = None
    image_inputs: ImageInputs = "token"
    seed: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}.")
        if self.drawn_drafts and (self.sampling.temperature == 0 or not self.shape.is_chain):
            raise UserError("Drawn drafts need a temperature above 0 and a chain (topk 1).")
        if "" in self.stop_strings:
            raise UserError("An empty stop string would end every answer. Leave it out.")

    def seeds(self, rows: int) -> list[int]:
        """One seed per row."""
        if self.seed is None:
            return [random.SystemRandom().getrandbits(62) for _ in range(rows)]
        seeds = [self.seed + row for row in range(rows)] if isinstance(self.seed, int) else list(self.seed)
        if len(seeds) != rows:
            raise UserError(f"{len(seeds)} seeds for {rows} prompts. Give one per prompt, or a single number.")
        return seeds


def generate(target: Target, prompts: Batch, draft: Eagle3Draft | None = None, **options: Any) -> list[Generation]:
    """The whole answers to B prompts; arguments and errors are those of `stream`."""
    settings = Settings(**options)
    return generate_with(build_decoder(target, draft, settings), prompts, settings)


def stream(
    target: Target,
    prompts: Batch,
    draft: Eagle3Draft | None = None,
    *,
    into: list[Generation] | None = None,
    **options: Any,
) -> Iterator[list[list[int]]]:
    """Yields the answers in pieces: per target forward, one list of new token ids for each of B prompts.

    Args:
        target: the model whose output this is, draft or not.
        prompts: B conversations with the generation prompt, right-padded, on the target's device.
        draft: None decodes with the target alone.
        into: B generations, filled as they come.
        options: the fields of `Settings`; without any, greedy with a chain of 4 draft tokens.

    Raises:
        UserError: an empty or too long prompt, or a draft made for another target.
    """
    settings = Settings(**options)
    yield from stream_with(build_decoder(target, draft, settings), prompts, settings, into)


def build_decoder(target: Target, draft: Eagle3Draft | None, settings: Settings) -> Decoder:
    """What writes answers with these settings. Those who answer many prompts keep it: its buffers serve all of them.

    Raises:
        UserError: a draft made for another target.
    """
    sampler = Sampler(settings.sampling)
    if draft is None:
        return PlainDecoder(target, sampler)
    check_fit(target, draft)
    return SpeculativeDecoder(
        target, draft, settings.shape, sampler, drawn_drafts=settings.drawn_drafts, image_inputs=settings.image_inputs
    )


def generate_with(decoder: Decoder, prompts: Batch, settings: Settings) -> list[Generation]:
    """The whole answers to B prompts, which are read from their beginning."""
    decoder.forget()
    answers = [Generation() for _ in range(len(prompts))]
    for _ in stream_with(decoder, prompts, settings, answers):
        pass
    return answers


def stream_with(
    decoder: Decoder, prompts: Batch, settings: Settings, into: list[Generation] | None = None
) -> Iterator[list[list[int]]]:
    """`stream` on a decoder that may know the beginning of the prompt already (see `Decoder.forget`)."""
    target = decoder.target
    _check_length(target, prompts, settings.max_new_tokens)
    answers = into if into is not None else [Generation() for _ in range(len(prompts))]
    eos_ids = target.eos_ids if settings.eos_ids is None else settings.eos_ids
    stopper = Stopper(eos_ids, settings.max_new_tokens, settings.stop_strings, target.tokenizer)
    first = decoder.read(prompts, settings.max_new_tokens, settings.seeds(len(prompts)))
    going, pieces = [], []
    for answer, token in zip(answers, first.tolist(), strict=True):
        piece, finished = stopper.cut([], [token])
        answer.tokens += piece
        answer.drafted += [False] * len(piece)
        pieces.append(piece)
        going.append(not finished)
    yield pieces
    while any(going):
        committed = decoder.cycle(torch.tensor(going, device=first.device)).to_host()
        decoder.note(committed)
        pieces = [[] for _ in answers]
        for row, (answer, new) in enumerate(zip(answers, committed, strict=True)):
            if going[row]:
                pieces[row], finished = stopper.cut(answer.tokens, new)
                going[row] = not finished
                _note(answer, pieces[row], len(new) - 1, decoder.shape.num_steps)
        yield pieces


def _note(answer: Generation, piece: list[int], proposed: int, depth: int) -> None:
    """Records a piece of which the first `proposed` tokens came from the draft."""
    accepted = min(proposed, len(piece))
    answer.tokens += piece
    answer.drafted += [i < accepted for i in range(len(piece))]
    answer.stats.record(accepted=accepted, tokens=len(piece), depth=depth)


def _check_length(target: Target, prompts: Batch, max_new_tokens: int) -> None:
    length, limit = prompts.input_ids.shape[1], target.config.max_position_embeddings
    if len(prompts) == 0 or not 0 < length <= limit - max_new_tokens:
        raise UserError(
            f"The prompt has {length} tokens and max_new_tokens is {max_new_tokens}; together they must fit the "
            f"target's context of {limit}. Shorten the prompt or lower max_new_tokens."
        )


def check_fit(target: Target, draft: Eagle3Draft) -> None:
    """Raises UserError unless the draft was made for a target of this width, vocabulary and these layer ids."""
    ours, theirs = draft.config, target.config
    wrong = []
    if ours.target_hidden_size != theirs.hidden_size:
        wrong.append(f"hidden size {ours.target_hidden_size} (target: {theirs.hidden_size})")
    if ours.hidden_size != theirs.hidden_size and not ours.own_embeddings:
        wrong.append(f"width {ours.hidden_size}, that of embeddings (target: {theirs.hidden_size})")
    if ours.vocab_size != theirs.vocab_size:
        wrong.append(f"vocabulary {ours.vocab_size} (target: {theirs.vocab_size})")
    if tuple(ours.aux_layer_ids) != target.layer_ids:
        wrong.append(f"aux layer ids {ours.aux_layer_ids} (target captures {target.layer_ids})")
    if wrong:
        raise UserError(f"The draft was made for another target: {'; '.join(wrong)}. Give the pair that was trained together.")
