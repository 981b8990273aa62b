"""Whether an answer with a draft is the target's own, token by token, and where it is not, whether that is a tie."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.generate import Settings, build_decoder, generate_with
from vlm_eagle.decoding.options import TreeShape
from vlm_eagle.decoding.pair import Pair
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target


@dataclass(frozen=True)
class Parting:
    """Where an answer with the draft leaves the target's own.

    Attributes:
        position: tokens of the answer that are equal.
        gap: difference of the two tokens' float32 logits.
        rounding: largest error of the 16-bit logits at this place; 0 in float32.
    """

    id: str
    shape: str
    position: int
    gap: float
    rounding: float

    @property
    def is_tie(self) -> bool:
        """Both tokens' errors together may reverse their order."""
        return self.gap <= 2 * self.rounding


def compare_answers(
    prompts: Iterable[Conversation], pair: Pair, exact: Target, shapes: Sequence[TreeShape], max_new_tokens: int,
    llm_only: bool,
) -> Iterator[tuple[int, list[Parting]] | BadRow]:  # fmt: skip
    """Yields (tokens of the target's own answer, where answers with the draft leave it) for every prompt, or why it cannot be
    asked. `exact` is the target in float32."""
    target = pair.target
    limit = target.config.max_position_embeddings - max_new_tokens
    collator = VisionCollator(target.processor, max_length=limit, for_generation=True, llm_only=llm_only, strict=True)
    settings = Settings(max_new_tokens=max_new_tokens)
    plain = build_decoder(target, None, settings)
    decoders = {shape: build_decoder(target, pair.draft, replace(settings, shape=shape)) for shape in shapes}
    for conversation in prompts:
        try:
            batch = collator([conversation])
        except BadRow as error:
            yield error.as_value()
            continue
        assert batch is not None
        batch, found = batch.to(target.device), list[Parting]()
        alone = generate_with(plain, batch, settings)[0].tokens
        for shape, decoder in decoders.items():
            drafted = generate_with(decoder, batch, settings)[0].tokens
            if drafted != alone:
                found.append(Parting(conversation.id, shape.label, *measure_parting(target, exact, batch, alone, drafted)))
        yield len(alone), found


def measure_parting(
    target: Target, exact: Target, batch: Batch, alone: list[int], drafted: list[int]
) -> tuple[int, float, float]:
    """(position, gap, rounding) of the first difference."""
    position = next(i for i, (a, b) in enumerate(zip(alone, drafted, strict=False)) if a != b)
    longer = batch.extended(alone[:position])
    logits, rounded = exact.prefill(longer).logits[0], target.prefill(longer).logits[0]
    gap = float((logits[alone[position]] - logits[drafted[position]]).abs())
    return position, gap, float((logits - rounded).abs().max())
