"""Prefix reuse: how much of a prompt the caches of one decoder hold already."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PretrainedConfig

from vlm_eagle.records import Batch
from vlm_eagle.target.prefix import common_prefix, image_digests, image_spans


class CachedTokens:
    """What the caches were made from, as far as the host knows.

    Attributes:
        tokens: of each sequence, its last token (the root, which the target has not read) included; empty if unknown.
        images: digests of a single sequence's images.
    """

    def __init__(self) -> None:
        self.tokens: list[list[int]] = []
        self.images: list[str] = []

    def clear(self) -> None:
        """The next prompt is read from its beginning."""
        self.tokens, self.images = [], []

    def set(self, prompt: Batch, lengths: Tensor, roots: Tensor) -> None:
        """The prompts were read, and the roots (B,) chosen."""
        sequences = zip(prompt.input_ids.tolist(), lengths.tolist(), roots.tolist(), strict=True)
        self.tokens = [[*ids[:length], root] for ids, length, root in sequences]
        self.images = image_digests(prompt) if len(prompt) == 1 else []

    def append(self, committed: Sequence[Sequence[int]]) -> None:
        """Tokens were committed, by sequence."""
        for tokens, new in zip(self.tokens, committed, strict=True):
            tokens += new

    @property
    def max_length(self) -> int:
        """Committed entries of the longest sequence."""
        return max(map(len, self.tokens)) - 1

    @property
    def is_even(self) -> bool:
        """Whether all sequences are equally long."""
        return len(set(map(len, self.tokens))) == 1

    def reusable(self, prompt: Batch, config: PretrainedConfig, not_in_draft: int) -> int:
        """How many of a prompt's positions need not be read again. The last known one is always read, because its aux hidden
        states produce the draft's entry for what follows.

        Args:
            prompt: only a single prompt can reuse anything.
            config: the target's.
            not_in_draft: committed entries that the draft's cache still lacks.
        """
        if len(prompt) != 1 or len(self.tokens) != 1:
            return 0
        common = common_prefix(prompt, config, self.tokens[0], self.images)
        start = min(common - 1, len(self.tokens[0]) - 1 - not_in_draft, prompt.input_ids.shape[1] - 1)
        cut = [first for first, end in image_spans(prompt, config) if first < start < end]
        return max(cut[0] if cut else start, 0)
