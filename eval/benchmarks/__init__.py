"""The benchmarks: what each asks, where it comes from, and how its rows become prompts."""

from .load import default_names, load_benchmark, load_benchmarks

__all__ = ["default_names", "load_benchmark", "load_benchmarks"]
