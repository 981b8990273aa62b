"""Text from data, made fit to be shown: nothing invisible, nothing that reorders what stands beside it."""

import json
from typing import Any

from markupsafe import Markup

from data_recipes.report.text import HIDDEN


def visible(text: str) -> str:
    """The same text with controls, direction marks and half surrogates written out as ⟨U+202E⟩."""
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def json_block(value: Any) -> Markup:
    """JSON that may stand in a <script> element: no <, > or & that an HTML parser could take for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
