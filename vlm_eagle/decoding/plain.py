"""The target alone, token by token: what every speedup is measured against."""

import torch

from vlm_eagle.decoding.cycle import Decoder


class PlainDecoder(Decoder):
    """One causal step per cycle: no tree, no capture of hidden states, and no mask where all sequences are equally long."""

    def _advance(self, longest: int) -> None:
        state = self.state
        # a recorded graph must not depend on a length that the host knows
        even = self.recorded is None and all(len(row) == longest + 1 for row in self.known)
        logits = self.target.step(self.cache, state.root, state.lengths, longest, state.rope_delta, even=even)
        token = self.sampler(logits, None if self.sampler.greedy else state.uniform[:, 0])
        state.root.copy_(torch.where(state.going, token, state.root))
        state.lengths.add_(state.going)
        state.counts.copy_(state.going)
        state.committed.copy_(token[:, None])
