"""Vocabulary maps as others write them: offsets or absolute ids, sorted or not, with or without the reverse map."""

import torch
from torch import Tensor

from vlm_eagle.errors import UserError


def settle_vocabulary(tensors: dict[str, Tensor], draft_vocab_size: int, vocab_size: int) -> list[str]:
    """Turns d2t and t2d among `tensors` into the form of `DraftVocab`, in place, and says what was changed.

    Raises:
        UserError: no reading of the maps makes sense.
    """
    d2t, t2d = tensors.pop("d2t", None), tensors.pop("t2d", None)
    if draft_vocab_size == vocab_size:
        if d2t is not None:
            d2t = _checked(d2t, "d2t", vocab_size).long()
            if d2t.any() and not torch.equal(d2t, torch.arange(vocab_size)):
                raise UserError("The draft has the full vocabulary, yet its d2t is not the identity.")
        return [] if d2t is None and t2d is None else ["d2t and t2d dropped: the vocabulary is the full one"]
    notes = []
    if t2d is not None:
        t2d = _checked(t2d, "t2d", vocab_size)
        if t2d.dtype != torch.bool:
            if not bool(((t2d == 0) | (t2d == 1)).all()):
                raise UserError("t2d must hold 0 or 1 for every target token.")
            t2d, notes = t2d.bool(), ["t2d held numbers, now booleans"]
    if d2t is None:
        if t2d is None:
            raise UserError(f"{draft_vocab_size} draft tokens stand for {vocab_size} target tokens, but the file has no d2t.")
        d2t = t2d.nonzero().flatten() - torch.arange(int(t2d.sum()))
        notes.append("d2t made from t2d")
    d2t = _checked(d2t, "d2t", draft_vocab_size).long()
    ids, absolute = _target_ids(d2t, t2d, vocab_size)
    if absolute:
        notes.append("d2t held absolute ids, now offsets")
    if t2d is None:
        t2d = torch.zeros(vocab_size, dtype=torch.bool)
        t2d[ids] = True
        notes.append("t2d made from d2t")
    order = ids.argsort()
    if not torch.equal(order, torch.arange(len(order))):
        if "lm_head.weight" not in tensors or len(tensors["lm_head.weight"]) != len(order):
            raise UserError(f"lm_head.weight should have {len(order)} rows, one per draft token.")
        ids, tensors["lm_head.weight"] = ids[order], tensors["lm_head.weight"][order]
        notes.append("draft tokens, and with them the rows of lm_head, sorted by target id")
    tensors |= {"d2t": ids - torch.arange(len(ids)), "t2d": t2d}
    return notes


def _checked(table: Tensor, name: str, size: int) -> Tensor:
    if (
        table.shape != (size,)
        or table.is_floating_point()
        or table.is_complex()
        or (name == "d2t" and table.dtype == torch.bool)
    ):
        raise UserError(f"{name} has shape {tuple(table.shape)} and dtype {table.dtype}; expected ({size},) whole numbers.")
    return table


def _target_ids(d2t: Tensor, t2d: Tensor | None, vocab_size: int) -> tuple[Tensor, bool]:
    """(W,) the target ids, and whether d2t held them as they are. Offsets, the engines' reading, are tried first."""
    for ids, absolute in ((d2t + torch.arange(len(d2t)), False), (d2t, True)):
        distinct = bool(((ids >= 0) & (ids < vocab_size)).all()) and len(ids.unique()) == len(ids)
        if distinct and (t2d is None or torch.equal(ids.sort().values, t2d.nonzero().flatten())):
            return ids, absolute
    raise UserError(
        "d2t and t2d disagree: neither draft_id + d2t[draft_id] nor d2t[draft_id] lists the true entries of t2d once each."
    )
