"""Masks written out by hand, position by position, and read back as text with the demo target's tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, Message, TextPart
from vlm_eagle.data.loss_mask import LossMask, Markers, markers_of
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import DEMO_TARGET

MARKERS = {"S": "<|im_start|>", "E": "<|im_end|>", "T": "<think>", "/T": "</think>", "/": "\n"}
WORDS = ("system", "user", "assistant", "how", "many", "three", "cats", "and", "dogs", "two", "be", "brief")


def word_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """One token per word and per newline, so that a mask can be written under its text."""
    vocab = {token: i for i, token in enumerate(["<pad>", *special, "\n", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    splits = [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", additional_special_tokens=list(special))


TEMPLATES = Path(__file__).parent / "templates"
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


def chatml(tokenizer) -> Markers:
    """What ChatML's markers are, written down by hand."""
    encode = lambda text: tuple(tokenizer.encode(text, add_special_tokens=False))
    thinks = "<think>" in tokenizer.get_vocab()
    openings = (encode("<think> \n \n </think> \n \n"),) if thinks else ()
    return Markers(encode("<|im_start|> assistant \n"), openings, frozenset(encode("<|im_end|>")))


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
    mask = LossMask(chatml(tokenizer)).mask(ids)
    assert mask.dtype == torch.bool
    assert mask.tolist() == expected


def test_a_tokenizer_without_think_tokens_supervises_what_looks_like_a_block():
    """Then it is text like any other, and nothing in a template would have written it."""
    text, _ = golden(GOLDEN_THINKING["empty think block"])
    tokenizer = word_tokenizer(*CHATML)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert LossMask(chatml(tokenizer)).mask(ids).sum() == 9  # six of the block, two words, <|im_end|>


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}", "no special tokens"),
        ("{{ raise_exception('Give a system prompt.') }}", "cannot be found: Give a system prompt"),
        ("{{ messages[0].content }}", "cannot render a plain conversation"),
        ("{% for m in messages %}{{ '<|im_start|>' + m.content }}{% endfor %}", None),
    ],
)
def test_templates_in_which_answers_cannot_be_found(processor, template, match):
    if match is None:  # the next turn's marker closes the answer; odd, but it can be found
        assert markers_of(processor.tokenizer, template).ends == {processor.tokenizer.convert_tokens_to_ids("<|im_start|>")}
        return
    with pytest.raises(UserError, match=match):
        markers_of(processor.tokenizer, template)


# family: its special tokens, of which the first opens every text; header and end of an answer; what a prompt may contain of it
FAMILIES = {
    "chatml": ((), "<|im_start|>assistant\n", "<|im_end|>", ()),
    "qwen3": (("<think>", "</think>"), "<|im_start|>assistant\n", "<|im_end|>", ("<think>\n\n</think>\n\n",)),
    "llama3": (
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", (),
    ),
    "mistral": (("<s>", "</s>", "[INST]", "[/INST]"), "[/INST]", "</s>", ()),
    "gemma": (("<bos>", "<start_of_turn>", "<end_of_turn>"), "<start_of_turn>model\n", "<end_of_turn>", ()),
    "deepseek_r1": (
        ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"),
        "<｜Assistant｜>", "<｜end▁of▁sentence｜>", ("<think>\n\n</think>\n\n", "<think>\n"),
    ),
}  # fmt: skip


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    tokenizer, special = AutoTokenizer.from_pretrained(DEMO_TARGET), list(FAMILIES[name][0])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *special]})
    tokenizer.bos_token = next(iter(special), None)
    tokenizer.eos_token = FAMILIES[name][2]
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer


@pytest.mark.parametrize("name", FAMILIES)
def test_markers_of_a_family(name):
    tokenizer, (_, header, end, openings) = family_tokenizer(name), FAMILIES[name]
    found = markers_of(tokenizer, tokenizer.chat_template)
    assert tokenizer.decode(found.header) == header
    assert [tokenizer.decode(opening) for opening in found.openings] == list(openings)
    assert [tokenizer.decode(one) for one in found.ends] == [end]


TALK = ["How many?", "Three red circles, and a fourth.", "And blue?", "None.\nSorry about assistant that."]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_server_would_be_asked_for_is_learned_and_nothing_else(name):
    """The reference renders every prompt as a server does, and takes what follows it in the whole text, to the end token."""
    tokenizer, end = family_tokenizer(name), FAMILIES[name][2]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(TALK)]
    render = lambda messages, prompt=False: tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt
    )
    text, expected = render(messages), ""
    for i in (1, 3):
        asked = render(messages[:i], prompt=True).removesuffix("<think>\n")  # R1's template drops thoughts from the past
        answer = text[len(asked) :] if text.startswith(asked) else text[text.index(TALK[i]) :]
        answer = answer.removeprefix("<think>\n\n</think>\n\n")  # with thinking off this is in the prompt
        expected += answer[: answer.index(end) + len(end)]
    ids = tokenizer.encode(text, add_special_tokens=False)
    mask = LossMask(markers_of(tokenizer, tokenizer.chat_template)).mask(ids)
    learned = tokenizer.decode([token for token, before in zip(ids[1:], mask[:-1].tolist(), strict=True) if before])
    assert learned == expected
    assert all(text in learned for text in TALK[1::2])


def test_thoughts_are_learned_where_the_template_shows_them():
    tokenizer = family_tokenizer("qwen3")
    messages = [
        {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4", "reasoning_content": "Easy."},
    ]  # fmt: skip
    ids = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)
    mask = LossMask(markers_of(tokenizer, tokenizer.chat_template)).mask(ids)
    learned = tokenizer.decode([token for token, before in zip(ids[1:], mask[:-1].tolist(), strict=True) if before])
    assert learned == "<think>\nEasy.\n</think>\n\n4<|im_end|>"


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
