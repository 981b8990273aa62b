"""The target alone, token by token: what every speedup is measured against."""

import torch

from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.target.kv_cache import SeqLens


class PlainDecoder(DecodeLoop):
    """One causal step per cycle: no tree, no capture of hidden states, and no mask where all sequences are equally long."""

    def _advance(self, seqs: SeqLens) -> None:
        state = self.state
        even = self.recorded is None and self.cached.is_even  # a recorded graph must not depend on a length the host knows
        logits = self.target.step(self.cache, state.root, seqs, even=even)
        token = self.sampler(logits, None if self.sampler.greedy else state.uniform[:, 0])
        state.root.copy_(torch.where(state.active, token, state.root))
        state.lengths.add_(state.active)
        state.counts.copy_(state.active)
        state.committed.copy_(token[:, None])
