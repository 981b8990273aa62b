"""What a prompt says about itself."""

import pytest
from PIL import Image

from vlm_eagle.data.benchmark import Prompt, chinese_or_english
from vlm_eagle.data.conversation import Conversation, ImagePart, Message, TextPart, VideoPart

TEXT, PICTURE = TextPart("What?"), ImagePart(Image.new("RGB", (4, 4)))


@pytest.mark.parametrize(
    ("parts", "modality"),
    [
        ((TEXT,), "text"),
        ((PICTURE, TEXT), "image"),
        ((PICTURE, TEXT, PICTURE), "multi-image"),
        ((VideoPart((Image.new("RGB", (4, 4)),)), TEXT), "video"),
        ((PICTURE, VideoPart((Image.new("RGB", (4, 4)),)), TEXT), "video"),
    ],
)
def test_modality(parts, modality):
    prompt = Prompt(Conversation("a", (Message("user", parts),)))
    assert prompt.modality == modality
    assert prompt.has_media == (modality != "text")
    assert prompt.id == "a"


def test_modality_looks_at_every_turn():
    turns = (Message("user", (PICTURE, TEXT)), Message("assistant", (TEXT,)), Message("user", (PICTURE, TEXT)))
    assert Prompt(Conversation("a", turns)).modality == "multi-image"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is it?", "en"),
        ("这是什么?", "zh"),
        ("用Python写一个循环函数", "zh"),
        ("3 + 4 = ?", "en"),
        ("", "en"),
        ("Say 你好.", "en"),
    ],
)
def test_language(text, language):
    assert chinese_or_english(text) == language
