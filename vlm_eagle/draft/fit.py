"""Does this draft fit this target? Configurations alone decide it, so it can be asked before any weights are loaded."""

from collections.abc import Sequence

from transformers import PretrainedConfig

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.errors import UserError


def misfits(draft: Eagle3Config, target: PretrainedConfig) -> list[str]:
    """Each difference in width or vocabulary that makes the pair impossible, in a few words. `target` is the target's text
    configuration."""
    wrong = []
    if draft.target_hidden_size != target.hidden_size:
        wrong.append(f"target_hidden_size {draft.target_hidden_size} (target: {target.hidden_size})")
    if draft.hidden_size != target.hidden_size and not draft.has_own_embed_tokens:
        wrong.append(f"hidden_size {draft.hidden_size} (the target's embeddings: {target.hidden_size})")
    if draft.vocab_size != target.vocab_size:
        wrong.append(f"vocab_size {draft.vocab_size} (target: {target.vocab_size})")
    return wrong


def check_fit(draft: Eagle3Config, target: PretrainedConfig, layer_ids: Sequence[int]) -> None:
    """Checks a draft against the target that is to run with it.

    Args:
        draft: the draft's configuration.
        target: the target's text configuration.
        layer_ids: the layers whose inputs the target captures.

    Raises:
        UserError: the draft was made for another width, vocabulary or other aux layers.
    """
    wrong = misfits(draft, target)
    if tuple(draft.aux_layer_ids) != tuple(layer_ids):
        wrong.append(f"aux layer ids {tuple(draft.aux_layer_ids)} (target captures {tuple(layer_ids)})")
    if wrong:
        raise UserError(f"The draft was made for another target: {'; '.join(wrong)}. Give the pair that was trained together.")
