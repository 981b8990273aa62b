"""The benchmarks: `entries/` holds the table, one small file per benchmark; the other files turn rows into prompts."""

from .entries import ENTRIES, GROUPS
from .load import IMAGES, default_names, expand, load_benchmark, load_benchmarks

__all__ = ["ENTRIES", "GROUPS", "IMAGES", "default_names", "expand", "load_benchmark", "load_benchmarks"]
