"""Conversations to a `Batch`: chat template, processor, loss mask, padding.

Every sample goes through the processor alone and is padded afterwards, so that it cannot depend on its neighbours, and one that
fails is skipped and counted without losing its batch.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, Message, Part, TextPart, VideoPart
from vlm_eagle.data.conversation_rows import tool_calls
from vlm_eagle.data.images import open_image
from vlm_eagle.data.loss_mask import LossMask, markers_of, mask_of
from vlm_eagle.data.media import Header, clip_tokens, image_budget, image_tokens, read_headers
from vlm_eagle.data.token_layout import layout_ids
from vlm_eagle.data.videos import Clip, read_frames
from vlm_eagle.errors import UserError
from vlm_eagle.records import PER_TOKEN, Batch

_TYPED = {
    "<|image_pad|>": "media token in text", "<|video_pad|>": "media token in text",
    "<|im_start|>": "role marker in text", "<|im_end|>": "role marker in text",
}  # fmt: skip


class VisionCollator:
    """Makes batches for a Qwen3-VL (give its processor) or a text-only Qwen3 (give its tokenizer).

    Args:
        processor: the target's processor or tokenizer.
        max_length: longest sample in tokens, image tokens included. A longer one loses the end of its text; when that
            would cut into an image or leave nothing to learn from, it is skipped.
        for_generation: prompts instead of training samples: final answers are dropped, the generation prompt is added.
        llm_only: skip samples with images or videos, so that the vision tower is never needed.
        thinking: for templates that know it: whether the target thinks before it answers; None leaves it to the template.
        strict: raise at the first bad sample instead of counting it.
    """

    def __init__(
        self,
        processor: ProcessorMixin | PreTrainedTokenizerBase,
        *,
        max_length: int = 2048,
        for_generation: bool = False,
        llm_only: bool = False,
        thinking: bool | None = False,
        strict: bool = False,
    ):
        if max_length < 1:
            raise UserError(f"max_length is {max_length}: the longest sample must have at least one token.")
        # Any: what transformers' processors and tokenizers can do is decided while they run
        self.vision: Any = None if llm_only or isinstance(processor, PreTrainedTokenizerBase) else processor
        self.tokenizer: Any = getattr(processor, "tokenizer", processor)
        template: Any = processor.chat_template
        self.chat_template: Any = template.get("default") if isinstance(template, dict) else template  # some have several
        self.max_length, self.for_generation, self.strict = max_length, for_generation, strict
        self.template_options = {} if thinking is None else {"enable_thinking": thinking}
        if self.chat_template is None:
            raise UserError(
                "The target's tokenizer has no chat template. Put the chat_template.jinja of its instruct version beside it."
            )
        self.loss_mask = LossMask(markers_of(self.tokenizer, self.chat_template, **self.template_options))
        # Qwen3-VL's processor writes the time of every frame; how others lay out videos is not known here
        self.timestamps = hasattr(type(self.vision), "_calculate_timestamps")
        special = {str(token): i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        around = {*self.loss_mask.markers.header, *self.loss_mask.markers.ends}
        self.typed = {token: "role marker in text" for token, i in special.items() if i in around} | _TYPED
        media = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
        vocabulary = self.tokenizer.get_vocab()
        self.media_ids = torch.tensor([vocabulary[token] for token in media if token in vocabulary])
        # padding is never seen, so any id will do where the tokenizer has none of its own
        self.pad_id = 0 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def __call__(self, conversations: Sequence[Conversation | BadRow]) -> Batch | None:
        """A batch of the usable samples. When there is none: None, unless something was skipped (then an empty batch).

        Raises:
            BadRow: a sample is bad and `strict` is set.
        """
        samples, skipped = [], Counter()
        for conversation in conversations:
            try:
                if isinstance(conversation, BadRow):
                    raise conversation
                samples.append((conversation.id, self.encode(conversation)))
            except BadRow as error:
                if self.strict:
                    raise
                skipped[error.reason] += 1
        return self.stack(samples, dict(skipped)) if samples or skipped else None

    def encode(self, conversation: Conversation) -> dict[str, Tensor]:
        """One sample as the processor's tensors plus `loss_mask` (1, T).

        Raises:
            BadRow: the sample cannot be used.
        """
        self.check(conversation)
        conversation = conversation.prompt() if self.for_generation else conversation
        return self._with_loss_mask(self._process(conversation), conversation)

    def token_layout(self, conversation: Conversation, headers: Sequence[Header] | None = None) -> dict[str, Tensor]:
        """`input_ids` and `loss_mask`, as `encode` gives them, without decoding an image.

        Args:
            conversation: the sample.
            headers: of its media, where they were read before.

        Raises:
            BadRow: the sample cannot be used. Damage that only shows in an image's pixels is not noticed.
        """
        self.check(conversation)
        conversation = conversation.prompt() if self.for_generation else conversation
        text = self.render(conversation)
        if self.vision is None:
            ids = torch.tensor(self.tokenizer.encode(text, add_special_tokens=False), dtype=torch.long)
        else:
            headers = read_headers(conversation) if headers is None else headers
            ids = layout_ids(text, conversation, headers, self.vision)
        return self._with_loss_mask({"input_ids": ids[None]}, conversation)

    def render(self, conversation: Conversation) -> str:
        """The conversation as text, by the target's own chat template."""
        messages = [template_message(message) for message in conversation.messages]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tools=list(conversation.tools) or None, chat_template=self.chat_template, tokenize=False,
                add_generation_prompt=self.for_generation, **self.template_options,
            )  # fmt: skip
        except Exception as error:  # templates raise what they like
            raise BadRow(conversation.source, "refused by the chat template", str(error).splitlines()[0][:120]) from None
        for what, word in _must_show(conversation):
            if word not in text:
                raise BadRow(conversation.source, f"{what} not in the chat template", f"the target's template shows no {what}")
        return text

    def check(self, conversation: Conversation) -> None:
        """Raises BadRow for a sample that no media could make usable."""
        if conversation.has_media and self.vision is None:
            raise BadRow(conversation.source, "has media", "images and videos need a vision target without llm_only")
        parts = [part for message in conversation.messages for part in message.content]
        if not self.timestamps and any(isinstance(part, VideoPart) for part in parts):
            raise BadRow(conversation.source, "video not supported", "videos are read for Qwen3-VL targets only")
        _refuse_typed_tokens(conversation.prompt() if self.for_generation else conversation, self.typed)

    def _with_loss_mask(self, encoded: dict[str, Tensor], conversation: Conversation) -> dict[str, Tensor]:
        ids = encoded["input_ids"][0].tolist()
        learned = [message.learned for message in conversation.messages if message.role == "assistant"]
        spans = list(self.loss_mask.answer_spans(ids))
        if len(spans) != len(learned):
            raise BadRow(
                conversation.source, "answers not found", f"{len(learned)} answers, and {len(spans)} in the rendered text"
            )
        encoded["loss_mask"] = mask_of([span for span, kept in zip(spans, learned, strict=True) if kept], len(ids))[None]
        if len(ids) > self.max_length:
            encoded = self._truncate(encoded, conversation)
        if not self.for_generation and not encoded["loss_mask"].any():
            raise BadRow(conversation.source, "nothing to learn", "the sample holds no answer token")
        return encoded

    def _process(self, conversation: Conversation) -> dict[str, Tensor]:
        text = self.render(conversation)
        if self.vision is None:
            return dict(self.tokenizer([text], return_tensors="pt", add_special_tokens=False))
        media = self._media(conversation) if conversation.has_media else {}
        return dict(self.vision(text=[text], return_tensors="pt", **media))

    def _media(self, conversation: Conversation) -> dict[str, Any]:
        messages = [
            {"role": m.role, "content": [_opened(part, conversation.source, self.vision) for part in m.content]}
            for m in conversation.messages
        ]
        patch = self.vision.image_processor.patch_size
        try:
            images, videos, video_kwargs = process_vision_info(
                messages, return_video_kwargs=True, return_video_metadata=True, image_patch_size=patch
            )
        except Exception as error:  # the decoders behind it raise types of their own
            raise BadRow(conversation.source, "video broken", str(error)) from error
        media: dict[str, Any] = {"images": images} if images else {}
        if videos:
            clips, metadata = zip(*videos, strict=True)
            media |= {"videos": list(clips), "video_metadata": list(metadata), **(video_kwargs or {})}
        return media

    def _truncate(self, encoded: dict[str, Tensor], conversation: Conversation) -> dict[str, Tensor]:
        ids, limit = encoded["input_ids"][0], self.max_length
        cut_media = torch.isin(ids[limit:], self.media_ids).any()
        if self.for_generation or cut_media or not encoded["loss_mask"][0, : limit - 1].any():
            raise BadRow(conversation.source, "too long", f"{len(ids)} tokens, limit {limit}")
        kept = {k: v[:, :limit] if k in PER_TOKEN else v for k, v in encoded.items()}
        kept["loss_mask"] = kept["loss_mask"].clone()
        kept["loss_mask"][0, limit - 1] = False  # its next token was cut off
        return kept

    def stack(self, samples: list[tuple[str, dict[str, Tensor]]], skipped: dict[str, int]) -> Batch:
        """A batch of encoded samples, each with its id; an empty one when there is none."""
        if not samples:
            empty = torch.zeros(0, 0, dtype=torch.long)
            return Batch(empty, empty, empty.bool(), skipped=skipped)
        encoded, padding = [sample for _, sample in samples], PER_TOKEN | {"input_ids": self.pad_id}
        stacked: dict[str, Tensor] = {}
        for name in sorted({name for sample in encoded for name in sample}):
            values = [sample[name] for sample in encoded if name in sample]
            if name in padding:
                stacked[name] = pad_sequence([value[0] for value in values], batch_first=True, padding_value=padding[name])
            else:
                stacked[name] = torch.cat(values)
        own = [stacked.pop(name) for name in ("input_ids", "attention_mask", "loss_mask")]
        return Batch(*own, vision_inputs=stacked, ids=tuple(id_ for id_, _ in samples), skipped=skipped)


def _must_show(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """(what, text that a template must show) of all that templates are known to drop in silence."""
    for tool in conversation.tools:
        yield "tools", str(tool.get("function", tool).get("name", ""))
    for message in conversation.messages:
        for call in message.tool_calls:
            yield "tool calls", call.name
    if conversation.messages[-1].reasoning:  # those of earlier turns are left out by templates on purpose
        yield "thoughts", conversation.messages[-1].reasoning.strip()


def template_message(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it. Text alone becomes a plain string, which text-only templates require."""
    kinds = {ImagePart: "image", VideoPart: "video"}
    content: Any = message.text
    if any(not isinstance(part, TextPart) for part in message.content):
        content = [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": kinds[type(part)]}
            for part in message.content
        ]
    elif message.role == "assistant":  # newlines that open it would fuse with the marker's into one token, such as "\n\n"
        content = re.sub(r"^\s*[\r\n]+", "", content)
    made = {"role": message.role, "content": content}
    made |= {"reasoning_content": message.reasoning} if message.reasoning else {}
    made |= {"tool_calls": tool_calls(message)} if message.tool_calls else {}
    return made | {key: value for key in ("name", "tool_call_id") if (value := getattr(message, key))}


def _opened(part: Part, source: str, processor: ProcessorMixin) -> dict[str, Any]:
    """The part in qwen_vl_utils' form, with pictures opened under our own limits and rejected if they cannot be resized."""
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    low, high = image_budget(processor)
    budget = {"min_pixels": low, "max_pixels": high}
    if isinstance(part, ImagePart):
        picture = open_image(part.image, source)
        image_tokens(picture.size, processor, source)
        return {"type": "image", "image": picture, **budget}
    frames, fps = _frames(part, source)
    clip_tokens(Clip(tuple(frame.size for frame in frames), fps), processor, source)
    return {"type": "video", "video": frames, "sample_fps": fps, **budget}


def _frames(part: VideoPart, source: str) -> tuple[list[Image.Image], float]:
    if isinstance(part.video, tuple):
        return [open_image(frame, source) for frame in part.video], part.fps
    if not part.video.is_file():
        raise BadRow(source, "video missing", f"{part.video} does not exist")
    try:
        return read_frames(part.video)
    except Exception as error:  # FFmpeg's errors are of many types
        raise BadRow(source, "video broken", f"{part.video}: {error}") from error


def _refuse_typed_tokens(conversation: Conversation, typed: Mapping[str, str]) -> None:
    """Typed media tokens would shift every image after them, and typed role markers would forge or cut answers."""
    for message in conversation.messages:
        for text in (message.text, message.reasoning):
            for token, reason in typed.items():
                if token in text:
                    raise BadRow(conversation.source, reason, f"text may not contain {token}")
