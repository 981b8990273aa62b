"""Text from data, made safe to look at."""

import re

# Controls of terminals; invisible marks that turn the direction of writing or hide letters; halves of surrogate pairs, which no
# file can hold. The joiners of emoji and of Indic and Arabic scripts (U+200C, U+200D) stay.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)


def printable(text: str) -> str:
    """The same text with hidden characters spelled out, as \\u202e, instead of obeyed."""
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
