"""Prompts that cannot be used are counted by reason; this says so in words."""

from collections import Counter
from collections.abc import Mapping


def in_words(skipped: Mapping[str, int]) -> str:
    """`3 x image missing, 1 x too long`, the most frequent reason first."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(skipped).most_common())
