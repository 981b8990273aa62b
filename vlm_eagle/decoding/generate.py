"""The decoding loop: prefill, then grow a tree, verify it in one target forward, commit, until the end.

One loop for VL and text-only targets, with or without a draft: without one every tree is its root alone, which is the plain
token-by-token decoding that the draft is measured against.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import torch

from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import accept
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.cache import keep_path
from vlm_eagle.target.target import Target


@dataclass
class Generation:
    """An answer's token ids, its end token included if it was reached, and what it took to write them."""

    tokens: list[int] = field(default_factory=list)
    stats: AcceptanceStats = field(default_factory=AcceptanceStats)


def generate(target: Target, prompt: Batch, draft: Eagle3Draft | None = None, **options) -> Generation:
    """The whole answer to a prompt. Options are those of `stream`."""
    generation = Generation()
    for _ in stream(target, prompt, draft, into=generation, **options):
        pass
    return generation


def stream(
    target: Target,
    prompt: Batch,
    draft: Eagle3Draft | None = None,
    *,
    shape: TreeShape | None = None,
    sampling: Sampling | None = None,
    max_new_tokens: int = 256,
    seed: int | None = None,
    into: Generation | None = None,
) -> Iterator[list[int]]:
    """Yields the answer in pieces, one list of token ids per target forward.

    Args:
        target: the model whose output this is, draft or not.
        prompt: one conversation (B = 1) with the generation prompt, on the target's device.
        draft: None decodes with the target alone.
        shape: the tree; None for a chain of 4 draft tokens (ignored without a draft).
        sampling: None for greedy.
        max_new_tokens: exact limit; the answer also ends with the target's first end token.
        seed: of the sampling; None draws from torch's global generator.
        into: filled with tokens and statistics as they come.

    Raises:
        UserError: an empty or too long prompt, or a draft made for another target.
    """
    into = into if into is not None else Generation()
    _check(target, prompt, draft, max_new_tokens)
    generator = None if seed is None else torch.Generator(target.device).manual_seed(seed)
    sampler = Sampler(sampling or Sampling(), generator)
    drafter = Drafter(draft, target.embed_tokens, shape or TreeShape(4)) if draft is not None else None

    state = target.prefill(prompt)
    root = int(sampler(state.logits[None]))
    if drafter:
        drafter.extend(state.aux_hidden, torch.cat([prompt.input_ids[0, 1:], prompt.input_ids.new_tensor([root])]))
    piece, finished = _cut([root], into.tokens, target.eos_ids, max_new_tokens)
    yield piece
    while not finished:
        prefix = state.cache.get_seq_length()
        tree = drafter.grow(root) if drafter else DraftTree.from_parents([root], [-1], target.device)
        logits, aux_hidden = target.verify(state.cache, tree.tokens, tree.depths, tree.ancestors, state.rope_delta)
        path, bonus = accept(tree, sampler(logits).tolist())
        committed = torch.cat([tree.tokens[path][1:], tree.tokens.new_tensor([bonus])])
        piece, finished = _cut(committed.tolist(), into.tokens, target.eos_ids, max_new_tokens)
        into.stats.record(accepted=min(len(path) - 1, len(piece)), tokens=len(piece), depth=tree.depth)
        yield piece
        if not finished:
            keep_path(state.cache, prefix, torch.tensor(path, device=tree.tokens.device))
            if drafter:
                drafter.extend(aux_hidden[path], committed)
            root = bonus


def _cut(new: list[int], answer: list[int], eos_ids: Set[int], max_new_tokens: int) -> tuple[list[int], bool]:
    """Appends `new` to the answer up to its first end token and the length limit: (what was appended, finished)."""
    piece = new[: max_new_tokens - len(answer)]
    end = next((i for i, token in enumerate(piece) if token in eos_ids), None)
    if end is not None:
        piece = piece[: end + 1]
    answer += piece
    return piece, end is not None or len(answer) >= max_new_tokens


def _check(target: Target, prompt: Batch, draft: Eagle3Draft | None, max_new_tokens: int) -> None:
    if len(prompt) != 1:
        raise UserError(f"Decoding takes one prompt at a time, found a batch of {len(prompt)}.")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens must be at least 1, found {max_new_tokens}.")
    length, limit = prompt.input_ids.shape[1], target.config.max_position_embeddings
    if not 0 < length <= limit - max_new_tokens:
        raise UserError(
            f"The prompt has {length} tokens and max_new_tokens is {max_new_tokens}; together they must fit the "
            f"target's context of {limit}. Shorten the prompt or lower max_new_tokens."
        )
    if draft is not None:
        check_fit(target, draft)


def check_fit(target: Target, draft: Eagle3Draft) -> None:
    """Raises UserError unless the draft was made for a target of this width, vocabulary and these layer ids."""
    ours, theirs = draft.config, target.config
    wrong = []
    if (ours.hidden_size, ours.target_hidden_size) != (theirs.hidden_size, theirs.hidden_size):
        wrong.append(f"hidden size {ours.target_hidden_size} (target: {theirs.hidden_size})")
    if ours.vocab_size != theirs.vocab_size:
        wrong.append(f"vocabulary {ours.vocab_size} (target: {theirs.vocab_size})")
    if tuple(ours.aux_layer_ids) != target.layer_ids:
        wrong.append(f"aux layer ids {ours.aux_layer_ids} (target captures {target.layer_ids})")
    if wrong:
        raise UserError(f"The draft was made for another target: {'; '.join(wrong)}. Give the pair that was trained together.")
