"""Real proportions of targets, by name."""

# hidden, intermediate, layers, heads, key-value heads, vision; from the models' config.json on the hub. The first is no
# model's: small enough that a CPU trains its draft in a blink.
SHAPES = {
    "tiny": (256, 768, 8, 4, 2, False),
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, False),
    "qwen3-4b": (2560, 9728, 36, 32, 8, False),
    "qwen3-8b": (4096, 12288, 36, 32, 8, False),
    "qwen3-vl-2b": (2048, 6144, 28, 16, 8, True),
    "qwen3-vl-4b": (2560, 9728, 36, 32, 8, True),
    "qwen3-vl-8b": (4096, 12288, 36, 32, 8, True),
}
VOCABULARY, HEAD_DIM = 151_936, 128


def vocabulary(name: str) -> int:
    """The target's, V."""
    return 4096 if name == "tiny" else VOCABULARY
