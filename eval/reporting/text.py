"""Text from data, made fit to be shown: nothing invisible, nothing that reorders what stands beside it."""

import json
import re
from typing import Any

from markupsafe import Markup

# controls other than tab and newline; marks that change the direction of text; surrogates; line separators that JavaScript
# and HTML treat unlike Python; the byte order mark; noncharacters
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)


def visible(text: str) -> str:
    """The same text with controls, direction marks and half surrogates written out as ⟨U+202E⟩."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def json_block(value: Any) -> Markup:
    """JSON that may stand in a <script> element: no <, > or & that an HTML parser could take for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
