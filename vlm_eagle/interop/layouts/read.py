"""Reads drafts in the layouts that others write, and turns them into ours without changing a weight.

Known: SpecForge's and SGLang's flat layout, Model-Optimizer's (`layers.0.*`), AngelSlim's (its architecture name and tie flag,
M-RoPE), SafeAILab's EAGLE-3 (`pytorch_model.bin`), and vLLM's `speculators`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.files import CONFIG, check_dtypes, fetch, read_json
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.checks import check_draft
from vlm_eagle.interop.layouts.flat import flat_layout, native_row
from vlm_eagle.interop.layouts.speculators import from_speculators
from vlm_eagle.interop.layouts.tensor_files import PATTERNS, native_name, read_tensors
from vlm_eagle.interop.layouts.vocabulary import settle_vocabulary

_UNUSED = ("rotary_emb.inv_freq", "verifier_lm_head.weight", "verifier_norm.weight")  # never read while drafting


@dataclass(frozen=True)
class Imported:
    """A draft in our terms, whoever made it.

    Attributes:
        config: its configuration.
        tensors: its weights under our names, in the file's dtype.
        layout: whose layout it was.
        notes: what was assumed or changed, for the user to read.
    """

    config: Eagle3Config
    tensors: dict[str, Tensor]
    layout: str
    notes: list[str]

    def with_target_embeddings(self, table: Tensor) -> "Imported":
        """Without its own embeddings if they are the target's, (V, D_target): both engines share those anyway."""
        own = self.tensors.get("embed_tokens.weight")
        if own is None:
            return self
        if own.shape != table.shape or not torch.equal(own, table.to(own.dtype)):
            return replace(self, notes=[*self.notes, "embed_tokens differs from the target's and is kept; SGLang discards it"])
        rest = {name: t for name, t in self.tensors.items() if t is not own}
        config = replace(self.config, has_own_embed_tokens=False)
        return replace(self, config=config, tensors=rest, notes=[*self.notes, "embed_tokens is the target's and was dropped"])


def read_draft(name: str | Path, *, revision: str | None = None, num_layers: int | None = None) -> Imported:
    """Reads a draft in any known layout from a folder or a hub id.

    Args:
        name: folder or hub id.
        revision: hub revision.
        num_layers: the target's depth, for drafts whose config names no aux layers: the engines' default is taken.

    Raises:
        UserError: unreadable or hostile files, an unknown layout, or something that we could not decode correctly.
    """
    folder = fetch(name, revision, PATTERNS)
    row, notes = read_json(folder / CONFIG), []
    try:
        if "speculators_model_type" in row:
            layout, row = "speculators", from_speculators(row, notes)
        else:
            layout = flat_layout(row)
        tensors = _our_names(read_tensors(folder), notes)
        _settle_head(row, tensors, notes)
        native = native_row(row, tensors, num_layers, notes)
        notes += settle_vocabulary(tensors, native["draft_vocab_size"], native["vocab_size"])
        native["torch_dtype"] = _settle_dtype(tensors, notes)
        config = Eagle3Config.from_json(native)
        check_draft(config, tensors)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return Imported(config, tensors, layout, notes)


def _our_names(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        if name.endswith(_UNUSED):
            base = f" (it says that the rotary base is {_base(tensor):.0f})" if name.endswith("inv_freq") else ""
            notes.append(f"{name} dropped: drafting does not read it{base}")
            continue
        ours = native_name(name)
        if ours in renamed:
            raise UserError(f"two tensors are called {ours} once prefixes are removed.")
        renamed[ours] = tensor
    return renamed


def _base(frequencies: Tensor) -> float:
    """The base of rotary frequencies (K / 2,), which a training may have used whatever its config says."""
    flat = frequencies.flatten().float()
    return float(flat[1].pow(-len(flat))) if len(flat) > 1 else float("nan")


def _settle_head(row: dict[str, object], tensors: dict[str, Tensor], notes: list[str]) -> None:
    """The tie flag counts only where there is no head (AngelSlim's files say true and bring one)."""
    if not row.get("tie_word_embeddings"):
        return
    if "lm_head.weight" in tensors:
        notes.append("tie_word_embeddings was true, but the file has its own lm_head: now false, or SGLang would ignore it")
    elif "embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["embed_tokens.weight"].clone()
        notes.append("lm_head was tied to embed_tokens and is now written out")


def _settle_dtype(tensors: dict[str, Tensor], notes: list[str]) -> str:
    """The one dtype of all weights; where they differ all become float32, which holds every value of the others."""
    check_dtypes(tensors)
    kinds = {str(t.dtype).removeprefix("torch.") for name, t in tensors.items() if name not in ("d2t", "t2d")}
    if len(kinds) <= 1:
        return kinds.pop() if kinds else "float32"
    tensors |= {name: t.float() for name, t in tensors.items() if t.is_floating_point()}
    notes.append(f"weights were {' and '.join(sorted(kinds))}; all became float32, which loses nothing")
    return "float32"
