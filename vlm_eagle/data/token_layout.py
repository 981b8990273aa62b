"""A sample's token ids without its pixels: what the processor writes for every image and video, from headers alone."""

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import ProcessorMixin

from vlm_eagle.data.conversation import Conversation, ImagePart, TextPart
from vlm_eagle.data.media import Header, clip_of, clip_tokens, image_tokens

IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
_FRAME = f"<|vision_start|>{VIDEO_PAD}<|vision_end|>"


def layout_ids(text: str, conversation: Conversation, headers: Sequence[Header], processor: ProcessorMixin) -> Tensor:
    """(T,) int64, the ids that `processor` makes of the rendered `text` and the conversation's media. Raises BadRow for media
    that the processor would reject."""
    repeats, clips = [], []  # tokens of each pad in the text, in order; what replaces each video
    parts = [part for message in conversation.messages for part in message.content if not isinstance(part, TextPart)]
    for part, header in zip(parts, headers, strict=True):
        if isinstance(part, ImagePart):
            assert isinstance(header, tuple)
            repeats.append(image_tokens(header, processor, conversation.source))
        else:
            clip = clip_of(part, header, conversation.source)
            seconds, tokens = clip_tokens(clip, processor, conversation.source)
            clips.append("".join(f"<{at:.1f} seconds>{_FRAME}" for at in seconds))
            repeats += [tokens] * len(seconds)
    if clips:
        text = _in_place(text, iter(clips), processor)
    tokenizer = processor.tokenizer
    ids = torch.tensor(tokenizer.encode(text, add_special_tokens=False), dtype=torch.long)
    if not repeats:
        return ids
    pads = torch.tensor(tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD]))
    times = torch.ones_like(ids)
    times[torch.isin(ids, pads)] = torch.tensor(repeats)
    return ids.repeat_interleave(times)


def _in_place(text: str, clips: Iterator[str], processor: ProcessorMixin) -> str:
    """Qwen3VLProcessor writes a clip in place of its pad; before it had `replace_video_token`, with the two marks around it."""
    pad = VIDEO_PAD if hasattr(processor, "replace_video_token") else _FRAME
    return re.sub(re.escape(pad), lambda _: next(clips), text)
