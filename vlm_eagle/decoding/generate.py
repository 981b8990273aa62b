"""Prompts in, answers out, whole or piece by piece: for VL and text-only targets, a ragged batch, with or without a draft."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.options import Settings
from vlm_eagle.decoding.plain import PlainDecoder
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.stopping import Stopper
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
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


def generate(
    target: Target, prompts: Batch, draft: Eagle3Draft | None = None, settings: Settings | None = None
) -> list[Generation]:
    """The whole answers to B prompts.

    Args:
        target: the model whose output this is, draft or not.
        prompts: B conversations with the generation prompt, right-padded, on the target's device.
        draft: None decodes with the target alone.
        settings: None is greedy, with a chain of 4 draft tokens.

    Raises:
        UserError: an empty or too long prompt, or a draft made for another target.
    """
    settings = settings or Settings()
    return generate_with(build_decoder(target, draft, settings), prompts, settings)


def build_decoder(target: Target, draft: Eagle3Draft | None, settings: Settings) -> DecodeLoop:
    """What writes answers with these settings. Keep it to answer many prompts: its buffers serve all of them.

    Raises:
        UserError: a draft made for another target.
    """
    sampler = Sampler(settings.sampling)
    if draft is None:
        return PlainDecoder(target, sampler)
    return SpeculativeDecoder(
        target, draft, settings.shape, sampler, sampled_drafts=settings.sampled_drafts, image_inputs=settings.image_inputs
    )


def generate_with(decoder: DecodeLoop, prompts: Batch, settings: Settings) -> list[Generation]:
    """The whole answers to B prompts, which are read from their beginning."""
    decoder.reset_cache()
    answers = [Generation() for _ in range(len(prompts))]
    for _ in stream_with(decoder, prompts, settings, answers):
        pass
    return answers


def stream_with(
    decoder: DecodeLoop, prompts: Batch, settings: Settings, out: list[Generation] | None = None
) -> Iterator[list[list[int]]]:
    """Yields the answers in pieces: per target forward, one list of new token ids for each of B prompts. What the decoder's
    caches hold of a prompt is not read again (see `DecodeLoop.reset_cache`).

    Args:
        decoder: made with the same settings.
        prompts: as for `generate`.
        settings: as for `generate`.
        out: B generations, filled as they come.

    Raises:
        UserError: an empty or too long prompt.
    """
    target = decoder.target
    _check_length(target, prompts, settings.max_new_tokens)
    answers = out if out is not None else [Generation() for _ in range(len(prompts))]
    eos_ids = target.eos_ids if settings.eos_ids is None else settings.eos_ids
    stopper = Stopper(eos_ids, settings.max_new_tokens, settings.stop_strings, target.tokenizer)
    first = decoder.prefill(prompts, settings.max_new_tokens, settings.seeds(len(prompts)))
    active, pieces = [], []
    for answer, token in zip(answers, first.tolist(), strict=True):
        piece, finished = stopper.cut([], [token])
        answer.tokens += piece
        answer.drafted += [False] * len(piece)
        pieces.append(piece)
        active.append(not finished)
    yield pieces
    while any(active):
        committed = decoder.cycle(torch.tensor(active, device=first.device)).to_host()
        decoder.on_commit(committed)
        pieces = [[] for _ in answers]
        for b, (answer, new) in enumerate(zip(answers, committed, strict=True)):
            if active[b]:
                pieces[b], finished = stopper.cut(answer.tokens, new)
                active[b] = not finished
                accepted = min(len(new) - 1, len(pieces[b]))  # the last one is the target's own
                answer.tokens += pieces[b]
                answer.drafted += [i < accepted for i in range(len(pieces[b]))]
                answer.stats.record(accepted=accepted, tokens=len(pieces[b]), depth=decoder.shape.depth, uncut=len(new) - 1)
        yield pieces


def _check_length(target: Target, prompts: Batch, max_new_tokens: int) -> None:
    length, limit = prompts.input_ids.shape[1], target.config.max_position_embeddings
    if len(prompts) == 0 or not 0 < length <= limit - max_new_tokens:
        raise UserError(
            f"The prompt has {length} tokens and max_new_tokens is {max_new_tokens}; together they must fit the "
            f"target's context of {limit}. Shorten the prompt or lower max_new_tokens."
        )
