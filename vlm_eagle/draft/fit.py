"""Does this draft fit this target: sizes alone, which is what config.json says of both."""

from transformers import PretrainedConfig

from vlm_eagle.draft.config import Eagle3Config


def misfits(draft: Eagle3Config, target: PretrainedConfig) -> list[str]:
    """Why the pair cannot work: each difference in width or vocabulary in a few words; empty if it can.

    Args:
        draft: the head's configuration.
        target: the target's text configuration.
    """
    wrong = []
    if draft.target_hidden_size != target.hidden_size:
        wrong.append(f"target_hidden_size {draft.target_hidden_size} (target: {target.hidden_size})")
    if draft.hidden_size != target.hidden_size and not draft.has_own_embed_tokens:
        wrong.append(f"hidden_size {draft.hidden_size} (the target's embeddings: {target.hidden_size})")
    if draft.vocab_size != target.vocab_size:
        wrong.append(f"vocab_size {draft.vocab_size} (target: {target.vocab_size})")
    return wrong
