"""What the doctor measures with: the target's own greedy answers, and every hidden state that an interpretation may need."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

_BATCH_SIZE = 8
_MIN_TOKENS = 3  # of an answer: the first comes from the prefill, and a single guess says little


@dataclass(frozen=True)
class Case:
    """One prompt with the target's answer.

    Attributes:
        ids: (T,) int64, prompt and answer.
        prompt: tokens of the prompt.
        has_image: whether it shows an image or a video.
        states: by layer id, (T, D_target): what the layer receives.
        before: likewise for layers that receive DeepStack's additions: what the layer before gave.
        inputs_embeds: (T, D_target), what the first layer receives, visual embeddings included.
        visual: (T,) bool, image and video tokens.
        mrope: (3, T) int64, the target's positions.
    """

    ids: Tensor
    prompt: int
    has_image: bool
    states: dict[int, Tensor]
    before: dict[int, Tensor]
    inputs_embeds: Tensor
    visual: Tensor
    mrope: Tensor


def make_cases(
    target: Target, conversations: Sequence[Conversation], layer_ids: Iterable[int], max_new_tokens: int
) -> tuple[list[Case], Counter[str]]:
    """Lets the target answer, then reads prompt and answer once more to keep the states of `layer_ids`.

    Returns:
        The cases, and by reason how many prompts make none.

    Raises:
        UserError: no prompt can be measured with.
    """
    collator = VisionCollator(
        target.processor, for_generation=True, llm_only=not target.is_vision,
        max_length=target.config.max_position_embeddings - max_new_tokens,
    )  # fmt: skip
    cases, skipped, first = [], Counter(), ""
    for start in range(0, len(conversations), _BATCH_SIZE):
        rows = []
        for conversation in conversations[start : start + _BATCH_SIZE]:
            try:
                rows.append((conversation.id, collator.encode(conversation)))
            except BadRow as failure:
                skipped[failure.reason] += 1
                first = first or str(failure)
        if not rows:
            continue
        batch = collator.stack(rows, {})
        answers = generate(target, batch.to(target.device), None, Settings(max_new_tokens=max_new_tokens))
        for row, answer in zip(rows, answers, strict=True):
            if len(answer.tokens) < _MIN_TOKENS:
                skipped["answer too short"] += 1
                continue
            alone = collator.stack([row], {}).to(target.device)
            cases.append(_case(target, alone, answer.tokens, layer_ids))
    if not cases:
        first = first or f"every answer has fewer than {_MIN_TOKENS} tokens"
        raise UserError(f"None of {len(conversations)} prompts can be measured with ({first}). Give others with --prompts.")
    return cases, skipped


@torch.no_grad()
def _case(target: Target, prompt: Batch, answer: list[int], layer_ids: Iterable[int]) -> Case:
    whole = prompt.extended(answer)
    with _recorded_states(target, layer_ids) as (states, before):
        target.features(whole)
    visual = target.visual_mask(whole)
    positions, _ = target.positions(whole)
    ids = whole.input_ids[0]
    return Case(
        ids=ids,
        prompt=prompt.input_ids.shape[1],
        has_image=visual is not None and bool(visual.any()),
        states=states,
        before=before,
        inputs_embeds=states[0],
        visual=torch.zeros_like(ids, dtype=torch.bool) if visual is None else visual[0],
        mrope=positions[:, 0] if positions.ndim == 3 else positions.expand(3, -1),
    )


@contextmanager
def _recorded_states(target: Target, layer_ids: Iterable[int]) -> Iterator[tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """By layer id, what chosen layers receive, and what the layer before gave where DeepStack adds to it."""
    layers = target.decoder.layers
    inputs: dict[int, Tensor] = {}
    before: dict[int, Tensor] = {}

    def keep_input(layer: int, _: object, args: tuple, kwargs: dict) -> None:
        inputs[layer] = (args[0] if args else kwargs["hidden_states"])[0].float()

    def keep_output(layer: int, _: object, __: tuple, output: Tensor | tuple) -> None:
        before[layer] = (output[0] if isinstance(output, tuple) else output)[0].float().clone()

    with ExitStack() as hooks:
        for i in {0, *(i for i in layer_ids if 0 <= i < len(layers))}:
            hooks.enter_context(layers[i].register_forward_pre_hook(partial(keep_input, i), with_kwargs=True))
            if 0 < i <= target.deepstack_levels:
                hooks.enter_context(layers[i - 1].register_forward_hook(partial(keep_output, i)))
        yield inputs, before
