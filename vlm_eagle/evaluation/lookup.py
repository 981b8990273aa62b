"""Prompt-lookup decoding in our own loop: guesses are copied from where the last tokens stood before. No draft, no training.

transformers has it too, but not for prompts with images: there it copies image tokens and fails. Source of the method:
https://github.com/apoorvumang/prompt-lookup-decoding.
"""

import torch

from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.sampling import Sampler
from vlm_eagle.decoding.speculative import verify_and_commit
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.target.kv_cache import SeqLens
from vlm_eagle.target.target import Target

GUESSES, LONGEST_MATCH = 10, 3  # tokens copied, tokens that must match before them


class LookupDecoder(DecodeLoop):
    """Chains copied from the text so far. A cycle without a match verifies only the root."""

    def __init__(self, target: Target, sampler: Sampler):
        super().__init__(target, sampler, TreeShape(GUESSES + 1))
        self.recorded = None  # the host decides in every cycle what is copied

    def _advance(self, seqs: SeqLens) -> None:
        verify_and_commit(self, self._copied(), seqs)

    def _copied(self) -> DraftTree:
        root = self.state.root
        copied = [look_up(known, GUESSES, LONGEST_MATCH) for known in self.cached.tokens]
        n = max(map(len, copied))
        padded = torch.tensor([row + [0] * (n - len(row)) for row in copied], dtype=torch.long, device=root.device)
        tokens = torch.cat([root[:, None], padded], dim=1)
        parents = torch.arange(-1, n, device=tokens.device).expand_as(tokens)
        return DraftTree.from_parents(tokens, parents, n)


def look_up(known: list[int], guesses: int, longest: int) -> list[int]:
    """What followed the latest earlier occurrence of the last tokens, the longest match first; [] without one."""
    for size in range(min(longest, len(known) - 1), 0, -1):
        pattern = known[-size:]
        for start in range(len(known) - size - 1, -1, -1):
            if known[start : start + size] == pattern:
                return known[start + size : start + size + guesses]
    return []
