"""Languages of answers: what is looked at, and what is too little to tell."""

import pytest

from data_recipes.languages import CHARACTERS, LANGUAGES, language_of

ENGLISH = "The quick brown fox jumps over the lazy dog while the cat is sleeping. "


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        ("Das ist ein einfaches Beispiel für eine Schleife.", "de"),
        ("这里是一个简单的例子。", "zh"),
        ("これは簡単な例です。", "ja"),
        ("天地玄黄", "zh"),  # four characters say enough where each is a word
        ("", "und"),
        ("42", "und"),
        ("Yes.", "und"),
        ("好", "und"),
    ],
)
def test_what_a_text_is_written_in(text, language):
    assert language_of(text) == language
    assert language in (*LANGUAGES, "und")


@pytest.mark.parametrize("code", [f"```\n{ENGLISH * 6}```\n", f"`{ENGLISH}` "])
def test_code_does_not_count(code):
    answer = "Das ist ein einfaches Beispiel für eine Schleife."
    assert language_of(code) == "und"
    assert language_of(code + answer) == "de"


def test_a_block_of_code_that_is_never_closed():
    assert language_of(f"Das ist ein einfaches Beispiel.\n```\n{ENGLISH * 6}") == "de"


def test_the_beginning_decides():
    assert language_of(ENGLISH * (CHARACTERS // len(ENGLISH) + 1) + "Das ist ein Beispiel. " * 100) == "en"
