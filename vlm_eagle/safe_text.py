"""Text from data, made fit to be shown: nothing invisible, nothing that reorders its neighbours."""

import re

# Controls of terminals; invisible marks that turn the direction of writing or hide letters; halves of surrogate pairs, which no
# file can hold. The joiners of emoji and of Indic and Arabic scripts (U+200C, U+200D) stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)


def visible(text: str) -> str:
    """The same text with controls, direction marks and lone surrogates written out as ⟨U+202E⟩."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)
