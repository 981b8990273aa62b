"""Tokens as readable pieces: nothing is lost, and what is learned is told apart to the token."""

from chats import PICTURE, about, chat, supervised_text

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.spans import Piece, learned_tokens, pieces


def test_pieces_are_the_sample(processor):
    collator = VisionCollator(processor)
    for sample in (chat("你好,你是谁?", "I am café Zürich, 水壶."), about(PICTURE, PICTURE, answer="Two\n\nkettles. ")):
        encoded = collator.token_layout(sample)
        ids, supervised = encoded["input_ids"][0], encoded["loss_mask"][0]
        found = pieces(ids.tolist(), learned_tokens(supervised), processor.tokenizer)
        assert "".join(piece.text * piece.count for piece in found) == processor.tokenizer.decode(ids)
        learned = "".join(piece.text for piece in found if piece.learned)
        assert learned == supervised_text(processor.tokenizer, ids, supervised) != ""


def test_runs_of_image_tokens_are_folded(processor):
    ids = processor.tokenizer.convert_tokens_to_ids(["a", "<|image_pad|>", "<|image_pad|>", "b", "c", "<|image_pad|>"])
    found = pieces(ids, [False, False, False, False, True, True], processor.tokenizer)
    pad = "<|image_pad|>"
    assert found == [
        Piece("a", 1, False), Piece(pad, 2, False), Piece("b", 1, False), Piece("c", 1, True), Piece(pad, 1, True),
    ]  # fmt: skip
    assert list(map(str, found)) == ["a", "<|image_pad|> x 2", "b", "c", "<|image_pad|>"]
    assert pieces([], [], processor.tokenizer) == []
