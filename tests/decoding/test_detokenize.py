"""Streamed text is the text."""

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vlm_eagle.decoding.detokenize import TextStream
from vlm_eagle.target.load import DEMO_TARGET

TOKENIZER = AutoTokenizer.from_pretrained(DEMO_TARGET)


@settings(max_examples=100)
@given(st.text(st.sampled_from("abc 图形🙂é\n<|"), max_size=40), st.integers(1, 4))
def test_pieces_join_to_the_text(text, size):
    ids = TOKENIZER(text)["input_ids"]
    stream, pieces = TextStream(TOKENIZER), []
    for start in range(0, len(ids), size):
        pieces.append(stream.push(ids[start : start + size]))
        assert "\N{REPLACEMENT CHARACTER}" not in pieces[-1]
    assert "".join(pieces) + stream.end() == text


def test_special_tokens_are_not_shown_and_half_characters_wait():
    ids = TOKENIZER("🙂")["input_ids"]
    assert len(ids) > 1
    stream = TextStream(TOKENIZER)
    assert [stream.push([token]) for token in ids][:-1] == [""] * (len(ids) - 1)
    assert TextStream(TOKENIZER).push(TOKENIZER("<|im_end|>")["input_ids"]) == ""
    half = TextStream(TOKENIZER)
    half.push(ids[:1])
    assert half.end() == "\N{REPLACEMENT CHARACTER}"
