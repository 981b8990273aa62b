"""The benchmarks: `entries/` holds the table, one small file per benchmark; the other files turn rows into prompts."""

from vlm_eagle.demo.benchmarks import default_names

from .entries import ENTRIES, GROUPS
from .load import IMAGES, expand, in_words, load_benchmark, load_benchmarks

__all__ = ["ENTRIES", "GROUPS", "IMAGES", "default_names", "expand", "in_words", "load_benchmark", "load_benchmarks"]
