"""The benchmarks: `entries/` holds the table, one small file per benchmark; the other files turn rows into prompts."""

from .entries import ENTRIES, GROUPS
from .load import IMAGES, default_names, expand, load_benchmark, load_benchmarks
from .skipped import in_words

__all__ = ["ENTRIES", "GROUPS", "IMAGES", "default_names", "expand", "in_words", "load_benchmark", "load_benchmarks"]
