"""Text from data, made fit to be shown: nothing invisible, nothing that reorders what stands beside it."""

import json
from typing import Any

from markupsafe import Markup

from vlm_eagle.safe_text import visible as visible


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and how many more there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def json_block(value: Any) -> Markup:
    """JSON that may stand in a <script> element: no <, > or & that an HTML parser could take for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
