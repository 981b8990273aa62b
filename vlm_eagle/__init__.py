"""EAGLE-3 draft heads for Qwen3-VL and Qwen3: train, prove, serve."""

__version__ = "0.1.0"
