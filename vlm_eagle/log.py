"""What a run says while it goes: records of the logger `vlm_eagle`, which commands print as plain lines.

Whoever embeds the library gets them through Python's `logging`, and sees nothing but warnings until they ask for more:
`logging.getLogger("vlm_eagle").setLevel(logging.INFO)`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY = logging.getLogger("vlm_eagle")


class _Printing(logging.Handler):
    """Prints messages as they are: above a progress bar where there is one, because that bar has taken over stdout. Of several
    processes only the first does, as they all say the same."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("RANK", "0") == "0":
            print(record.getMessage(), flush=True)


@contextmanager
def printed() -> Iterator[None]:
    """While it lasts, all that the library says is printed."""
    handler, level, propagates = _Printing(), LIBRARY.level, LIBRARY.propagate
    LIBRARY.addHandler(handler)
    LIBRARY.setLevel(logging.INFO)
    LIBRARY.propagate = False  # once is enough where the root logger prints as well
    try:
        yield
    finally:
        LIBRARY.removeHandler(handler)
        LIBRARY.setLevel(level)
        LIBRARY.propagate = propagates
