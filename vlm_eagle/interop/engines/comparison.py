"""Asks an engine and our own loop the same prompts."""

from collections.abc import Callable, Iterable

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.pair import Pair
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.engine import Asked, Engine
from vlm_eagle.interop.engines.messages import resizer
from vlm_eagle.interop.engines.parity import Parity, answer_here, compare


def strict_collator(pair: Pair, max_new_tokens: int) -> VisionCollator:
    """Encodes prompts that leave room for an answer, and refuses others."""
    limit = pair.target.config.max_position_embeddings - max_new_tokens
    return VisionCollator(pair.processor, max_length=limit, for_generation=True, strict=True)


def compare_engine(
    engine: Engine, pair: Pair, collator: VisionCollator, prompts: Iterable[Conversation], max_new_tokens: int,
    skip: Callable[[BadRow], None],
) -> list[Parity]:  # fmt: skip
    """Text prompts and prompts with images, each as far as there are any; `skip` is told of those that cannot be asked.

    Raises:
        UserError: no prompt can be asked.
    """
    target, draft = pair.target, pair.draft
    assert draft is not None
    prepare = resizer(target.processor.image_processor) if target.is_vision else None
    asked = Asked(max_new_tokens=max_new_tokens, stop_ids=tuple(target.eos_ids), prepare=prepare)
    groups = {kind: Parity(kind, engine.shape) for kind in ("text", "images")}
    for prompt in prompts:
        try:
            batch = collator([prompt])
            theirs = engine.answer(prompt, asked)
        except BadRow as error:
            skip(error)
            continue
        assert batch is not None
        batch = batch.to(target.device)
        ours = answer_here(target, draft, batch, engine, max_new_tokens)
        text = str(target.tokenizer.decode(ours.tokens, skip_special_tokens=True))
        row = compare(prompt.id, batch.input_ids[0].tolist(), ours, theirs, text, target.eos_ids)
        groups["images" if prompt.has_media else "text"].add(row, theirs.stats, ours.stats)
    measured = [group for group in groups.values() if group.prompts]
    if not measured:
        raise UserError("Every prompt was skipped. Look at the reasons above.")
    return measured
