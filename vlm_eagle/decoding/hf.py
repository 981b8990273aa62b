"""Decoding with a draft from Hugging Face code: `model.generate(**inputs, custom_generate=custom_generate(draft))`.

Source: transformers' documentation of `custom_generate`. Output ids, padding and sampling parameters are those of `generate`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinPLogitsWarper,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.utils import GenerateDecoderOnlyOutput

from vlm_eagle.decoding.generate import Generation, Settings, build_decoder, stream_with
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

_WARPERS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper)
_CRITERIA = (MaxLengthCriteria, EosTokenCriteria)


def custom_generate(
    draft: Eagle3Draft,
    shape: TreeShape | None = None,
    *,
    sampled_drafts: bool = False,
    streamer: Any = None,
    stop_strings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Callable[..., Any]:
    """A callable for the `custom_generate` argument of `generate` of a Qwen3-VL(-MoE) or Qwen3(-MoE) model.

    Args:
        draft: the model's draft, on its device and in its dtype.
        shape: the tree; None for a chain of 4 draft tokens.
        sampled_drafts: see `Settings`.
        streamer: a transformers streamer. It goes here, as do stop strings and the tokenizer they need, because `generate`
            does not hand them to a callable (transformers 5.23).
        stop_strings: an answer ends with the token that completes one of these.
        tokenizer: for stop strings.

    The callable raises UserError for what this loop cannot do exactly: beams, penalties and other logits processors, other
    stopping criteria, scores, logits, attentions and hidden states.
    """

    def run(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        pixel_values: Tensor | None = None,  # named here, `generate` hands these over as they are instead of encoding them
        image_grid_thw: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        **model_inputs: Any,
    ) -> Tensor | GenerateDecoderOnlyOutput:
        _refuse_unknown(generation_config, logits_processor, stopping_criteria)
        vision_inputs = {
            "pixel_values": pixel_values, "image_grid_thw": image_grid_thw, "pixel_values_videos": pixel_values_videos,
            "video_grid_thw": video_grid_thw, "mm_token_type_ids": mm_token_type_ids,
        }  # fmt: skip
        vision_inputs = {name: value for name, value in vision_inputs.items() if value is not None}
        prompts = _right_padded(input_ids, model_inputs.get("attention_mask"), vision_inputs)
        if streamer is not None and len(prompts) > 1:
            raise UserError("A streamer takes one prompt at a time.")
        target, eos = Target(model, tokenizer, draft.config.aux_layer_ids), generation_config.eos_token_id
        eos = eos if isinstance(eos, list) else [] if eos is None else [eos]
        answers = [Generation() for _ in range(len(prompts))]
        settings = Settings(
            sampled_drafts=sampled_drafts, shape=shape or TreeShape(4), sampling=_sampling(generation_config),
            max_new_tokens=generation_config.max_length - input_ids.shape[1], eos_ids=frozenset(eos),
            stop_strings=stop_strings, seed=int(torch.randint(2**62, (1,))),
        )  # fmt: skip
        pieces = stream_with(build_decoder(target, draft, settings), prompts.to(target.device), settings, answers)
        if streamer is not None:
            streamer.put(input_ids.cpu())
            for (first,) in pieces:
                streamer.put(torch.tensor(first))
            streamer.end()
        for _ in pieces:  # all of them without a streamer
            pass
        pad = generation_config.pad_token_id
        pad = next(iter(eos), 0) if pad is None else pad
        tokens = [torch.tensor(answer.tokens, device=input_ids.device) for answer in answers]
        new = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=pad)
        sequences: Any = torch.cat([input_ids, new], dim=1)  # transformers asks for the legacy LongTensor
        return GenerateDecoderOnlyOutput(sequences=sequences) if generation_config.return_dict_in_generate else sequences

    return run


def _right_padded(input_ids: Tensor, attention_mask: Tensor | None, vision_inputs: dict[str, Tensor]) -> Batch:
    """transformers pads prompts on the left; here they begin at position 0."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    batch = Batch(input_ids, mask, torch.zeros_like(mask, dtype=torch.bool), vision_inputs)
    return batch.reordered(mask.argsort(dim=1, descending=True, stable=True))


def _sampling(config: GenerationConfig) -> Sampling:
    if not config.do_sample:
        return Sampling()
    return Sampling(
        temperature=1.0 if config.temperature is None else config.temperature,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k or 0,
        min_p=config.min_p or 0.0,
    )


def _refuse_unknown(config: GenerationConfig, processors: LogitsProcessorList, criteria: StoppingCriteriaList) -> None:
    wrong = [type(p).__name__ for p in processors if not isinstance(p, _WARPERS)]
    wrong += [type(c).__name__ for c in criteria if not isinstance(c, _CRITERIA)]
    wrong += [f"{name} > 1" for name in ("num_return_sequences", "num_beams") if (getattr(config, name) or 1) > 1]
    outputs = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
    wrong += [name for name in outputs if getattr(config, name)]
    if wrong:
        raise UserError(
            f"Decoding with a draft cannot give what {', '.join(wrong)} asks for. Leave it out, or generate without a draft."
        )
