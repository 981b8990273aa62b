"""Masks written out by hand, position by position, and read back as text with the demo target's tokenizer."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, Message, TextPart
from vlm_eagle.data.loss_mask import LossMask
from vlm_eagle.errors import UserError

MARKERS = {"S": "<|im_start|>", "E": "<|im_end|>", "T": "<think>", "/T": "</think>", "/": "\n"}
WORDS = ("system", "user", "assistant", "how", "many", "three", "cats", "and", "dogs", "two", "be", "brief")


def word_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """One token per word and per newline, so that a mask can be written under its text."""
    vocab = {token: i for i, token in enumerate(["<pad>", *special, "\n", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    splits = [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", additional_special_tokens=list(special))


CHATML, THINKING = ("<|im_start|>", "<|im_end|>"), ("<|im_start|>", "<|im_end|>", "<think>", "</think>")

# Words with "/" for a newline, S and E for <|im_start|> and <|im_end|>; below each word whether it is supervised there,
# that is, whether the NEXT word is part of an answer.
GOLDEN = {
    "one turn": """
        S user / how many E / S assistant / three cats E /
        . .    . .   .    . . . .         x x     x    . .""",
    "two turns": """
        S user / how many E / S assistant / three E / S user / and dogs E / S assistant / two dogs E /
        . .    . .   .    . . . .         x x     . . . .    . .   .    . . . .         x x   x    . .""",
    "system prompt": """
        S system / be brief E / S user / how many E / S assistant / two E /
        . .      . .  .     . . . .    . .   .    . . . .         x x   . .""",
    "cut off in the answer": """
        S user / how many E / S assistant / three cats
        . .    . .   .    . . . .         x x     .""",
    "cut off before <|im_end|>'s newline": """
        S user / how E / S assistant / two E
        . .    . .   . . . .         x x   .""",
    "cut off in the header": """
        S user / how E / S assistant
        . .    . .   . . . .""",
    "generation prompt": """
        S user / how E / S assistant /
        . .    . .   . . . .         .""",
    "almost the header": """
        S user / how E / S assistant two / three E /
        . .    . .   . . . .         .   . .     . .""",
    "the word assistant elsewhere": """
        S user / assistant / how E / assistant / S assistant / two E /
        . .    . .         . .   . . .         . . .         x x   . .""",
}
GOLDEN_THINKING = {
    "empty think block": """
        S user / how E / S assistant / T / / /T / / two cats E /
        . .    . .   . . . .         . . . . .  . x x   x    . .""",
    "a real thought": """
        S user / how E / S assistant / T / two /T / / two E /
        . .    . .   . . . .         x x x x   x  x x x   . .""",
    "empty think block only in the last turn": """
        S user / how E / S assistant / two E / S user / how E / S assistant / T / / /T / / two E /
        . .    . .   . . . .         x x   . . . .    . .   . . . .         . . . . .  . x x   . .""",
    "cut off in the think block": """
        S user / how E / S assistant / T / / /T / /
        . .    . .   . . . .         . . . . .  . .""",
}


def golden(drawing: str) -> tuple[str, list[bool]]:
    words, marks = (line.split() for line in drawing.strip().splitlines())
    assert len(words) == len(marks)
    return " ".join(MARKERS.get(word, word) for word in words), [mark == "x" for mark in marks]


CASES = [(CHATML, name) for name in GOLDEN] + [(THINKING, name) for name in GOLDEN | GOLDEN_THINKING]


@pytest.mark.parametrize(("special", "name"), CASES, ids=lambda value: value if isinstance(value, str) else len(value))
def test_golden_masks(special, name):
    text, expected = golden((GOLDEN | GOLDEN_THINKING)[name])
    tokenizer = word_tokenizer(*special)
    ids = tokenizer.encode(text, add_special_tokens=False)
    mask = LossMask(tokenizer).mask(ids)
    assert mask.dtype == torch.bool
    assert mask.tolist() == expected


def test_a_tokenizer_without_think_tokens_supervises_what_looks_like_a_block():
    """Then it is text like any other, and nothing in a template would have written it."""
    text, _ = golden(GOLDEN_THINKING["empty think block"])
    tokenizer = word_tokenizer(*CHATML)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert LossMask(tokenizer).mask(ids).sum() == 9  # six of the block, two words, <|im_end|>


@pytest.mark.parametrize("special", [(), ("<|im_start|>",), ("<|im_end|>",)])
def test_only_chatml_is_supported(special):
    with pytest.raises(UserError, match="ChatML"):
        LossMask(word_tokenizer(*special))


def turns(*texts: str) -> Conversation:
    roles = ("user", "assistant") * len(texts)
    return Conversation("c", tuple(Message(role, (TextPart(text),)) for role, text in zip(roles, texts, strict=False)))


@pytest.mark.parametrize(
    "texts",
    [
        ("How many?", "Three red circles."),
        ("你好", " 你好,世界。"),
        ("Describe.", "A list:\n- one\n- two\n", "Go on.", "The end"),
        ("Say assistant", "<|im_start is no marker, nor is im_end|>"),
    ],
)
def test_supervised_next_tokens_are_the_answers(processor, texts):
    collator = VisionCollator(processor.tokenizer)
    encoded = collator.encode(turns(*texts))
    ids, mask = encoded["input_ids"][0], encoded["loss_mask"][0]
    read = lambda where: processor.tokenizer.decode(ids[where.nonzero().flatten() + 1])
    assert read(mask) == "".join(answer + "<|im_end|>" for answer in texts[1::2])
    for shift in (-1, 1):  # and the check itself would notice a shifted mask
        assert read(mask.roll(shift)) != read(mask)


def test_the_mask_begins_at_the_last_prompt_token_and_ends_before_the_end_token(processor):
    tokenizer = processor.tokenizer
    encoded = VisionCollator(tokenizer).encode(turns("How many?", "Three."))
    ids, supervised = encoded["input_ids"][0].tolist(), encoded["loss_mask"][0].nonzero().flatten().tolist()
    prompt = tokenizer.encode("<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    end = len(ids) - 1 - ids[::-1].index(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert supervised == list(range(len(prompt) - 1, end))
