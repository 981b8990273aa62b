"""Engines and layouts by the names that command lines know them by."""

from typing import Literal

EngineName = Literal["auto", "vllm", "sglang"]
Format = Literal["native", "sglang", "vllm", "speculators"]
