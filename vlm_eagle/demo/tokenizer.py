"""The demo target's own tokenizer and processor: a byte-level BPE in Qwen's manner, trained on the demo's texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import Qwen2Tokenizer, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

# ChatML with images and videos where they stand in the message, as Qwen3-VL's own template writes them
CHAT_TEMPLATE = (Path(__file__).parent / "target" / "chat_template.jinja").read_text("utf-8")


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """A Qwen2Tokenizer (its normaliser, pre-tokeniser and decoder) with at most `vocab_size` tokens learned from `corpus`.

    Tokens are at most 12 bytes, that is four Chinese characters: without a limit a template's whole phrase becomes one
    token and there is nothing left to draft.
    """
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        corpus, vocab_size, new_special_tokens=list(SPECIAL_TOKENS[1:]), max_token_length=12, show_progress=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.model_max_length = 4096
    return tokenizer


def build_processor(tokenizer: Qwen2Tokenizer, patch_size: int = 16) -> Qwen3VLProcessor:
    """A Qwen3VLProcessor whose pixel budget suits the demo's pictures: 4 to 256 tokens of 32 x 32 pixels each."""
    size = {"shortest_edge": 4 * 32 * 32, "longest_edge": 256 * 32 * 32}
    common: dict[str, Any] = {"patch_size": patch_size, "temporal_patch_size": 2, "merge_size": 2, "size": size}
    common |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**common),
        chat_template=CHAT_TEMPLATE,
    )
