"""The target alone, token by token: what every speedup is measured against."""

import torch

from vlm_eagle.decoding.decode_loop import DecodeLoop


class PlainDecoder(DecodeLoop):
    """One causal step per cycle: no tree, no capture of hidden states, and no mask where all sequences are equally long."""

    def _advance(self, max_seq_len: int) -> None:
        state = self.state
        # a recorded graph must not depend on a length that the host knows
        even = self.recorded is None and all(len(row) == max_seq_len + 1 for row in self.cached_tokens)
        logits = self.target.step(self.cache, state.root, state.lengths, max_seq_len, state.rope_delta, even=even)
        token = self.sampler(logits, None if self.sampler.greedy else state.uniform[:, 0])
        state.root.copy_(torch.where(state.active, token, state.root))
        state.lengths.add_(state.active)
        state.counts.copy_(state.active)
        state.committed.copy_(token[:, None])
