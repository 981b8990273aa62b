"""The language of a text, by py3langid."""

import re
from functools import lru_cache

UNKNOWN = "und"  # ISO 639-2: undetermined
# Out of the library's 140: with all of them, short texts are taken for rare relatives (a Chinese one for Wu).
LANGUAGES = (
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he",
    "hi", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro",
    "ru", "sk", "sl", "sr", "sv", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
CHARACTERS = 400  # of a text, beyond which it is ignored; more costs time and changes little
ENOUGH = 12  # letters, below which the language is undetermined
_CODE = re.compile(r"```.*?(```|\Z)|`[^`\n]*`", re.DOTALL)
_LETTER = re.compile(r"[^\W\d_]")


def language_of(text: str) -> str:
    """ISO 639-1 code of the language a text is written in, code blocks aside; `und` where there is too little of it."""
    text = _CODE.sub(" ", text[: 4 * CHARACTERS])[:CHARACTERS]
    if len(_LETTER.findall(text)) < ENOUGH and not re.search(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{4}", text):
        return UNKNOWN
    return str(_identifier().classify(text)[0])


@lru_cache(maxsize=1)
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    return identifier
