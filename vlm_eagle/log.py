"""Messages of a run: records of the logger `vlm_eagle`, which commands print as plain lines.

A program that embeds the library gets them through Python's `logging`, and only warnings unless it asks for more:
`logging.getLogger("vlm_eagle").setLevel(logging.INFO)`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY = logging.getLogger("vlm_eagle")


class _Printing(logging.Handler):
    """Prints messages as they are, through stdout, so that a progress bar moves below them. Of several processes only the first
    prints: all have the same messages."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("RANK", "0") == "0":
            print(record.getMessage(), flush=True)


@contextmanager
def printed() -> Iterator[None]:
    """Prints the library's messages for as long as the context lasts."""
    handler, level, propagates = _Printing(), LIBRARY.level, LIBRARY.propagate
    LIBRARY.addHandler(handler)
    LIBRARY.setLevel(logging.INFO)
    LIBRARY.propagate = False  # the root logger may print as well
    try:
        yield
    finally:
        LIBRARY.removeHandler(handler)
        LIBRARY.setLevel(level)
        LIBRARY.propagate = propagates
