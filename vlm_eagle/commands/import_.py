"""Reads a draft made by others and writes it as a native draft directory, which we decode and both engines load.

    vlm-eagle import --source AngelSlim/Qwen3-VL-2B-Instruct_eagle3 --target Qwen/Qwen3-VL-2B-Instruct --out drafts/angelslim-2b

Layouts: SpecForge and SGLang, Model-Optimizer, AngelSlim, SafeAILab EAGLE-3, vLLM's speculators. No weight is changed. What
could not be decoded correctly is refused with the reason.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from vlm_eagle.errors import UserError
from vlm_eagle.interop.folders import new_folder


@dataclass(kw_only=True)
class Config:
    """What to read and where to.

    Attributes:
        source: folder or hub id of the draft.
        out: folder to write; it must not exist.
        target: folder or hub id of the draft's target, or demo: the draft is compared with it, aux layers that the draft does
            not name are known, and embeddings that are the target's own are left out.
        revision: hub revision of the draft.
    """

    source: str = ""
    out: str = ""
    target: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.source or not self.out:
            raise UserError("An import needs --source and --out.")


def main(config: Config) -> None:
    """Reads, checks, writes, and says what was assumed."""
    import torch

    from vlm_eagle.draft import files
    from vlm_eagle.interop.layouts.checks import check_target
    from vlm_eagle.interop.layouts.read import read_draft
    from vlm_eagle.target.load import load_embeddings, read_config

    console = Console(soft_wrap=True)
    target = read_config(config.target) if config.target else None
    depth = target.get_text_config().num_hidden_layers if target else None
    draft = read_draft(config.source, revision=config.revision, num_layers=depth)
    differences = []
    if target and config.target:
        differences = check_target(draft.config, target, config.target)
        if draft.config.has_own_embed_tokens:
            heads = load_embeddings(
                config.target, dtype="auto", device=torch.device("cpu"), layer_ids=draft.config.aux_layer_ids
            )
            draft = draft.with_target_embeddings(heads.embed_tokens.weight)
    with new_folder(Path(config.out)) as folder:
        files.save(folder, draft.config, draft.tensors)
    console.print(f"{draft.layout} layout, {draft.config.dtype}, aux layers (inputs) {draft.config.aux_layer_ids}")
    for note in draft.notes:
        console.print(f"  note: {note}", markup=False)
    for difference in differences:
        console.print(f"  differs: {difference}", markup=False, style="yellow")
    console.print(f"Written to {config.out}")
