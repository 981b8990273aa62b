"""The draft's key-value cache and the `Attend`s that read it."""

from torch import Tensor
from torch.nn import functional as F

from vlm_eagle.draft.layers import Attend


class DraftKVCache:
    """The draft's keys and values, (B, H_kv, capacity, K), allocated at first use."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def fill(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """An `Attend` for whole prompts: rows 0 .. R - 1, causal."""
        keys, values = self._allocated(k, v)
        keys[:, :, : k.shape[2]], values[:, :, : v.shape[2]] = k, v
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def attend(self, slots: Tensor, seen: Tensor) -> Attend:
        """An `Attend` for rows that go to `slots` (B, R) and see `seen` (B, R, kv_len)."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._allocated(k, v)
            index, kv_len = slots[:, None, :, None].expand_as(k), seen.shape[2]
            keys.scatter_(2, index, k)
            values.scatter_(2, index, v)
            keys, values = keys[:, :, :kv_len], values[:, :, :kv_len]
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen[:, None], enable_gqa=True)

        return attend

    def _allocated(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            b, h, _, d = k.shape
            self.keys, self.values = k.new_zeros(b, h, self.capacity, d), v.new_zeros(b, h, self.capacity, d)
        return self.keys, self.values

    def reserve(self, capacity: int) -> None:
        """Makes room for at least `capacity` rows; those there stay."""
        if capacity > self.capacity and self.keys is not None and self.values is not None:
            more = capacity - self.keys.shape[2]
            self.keys, self.values = F.pad(self.keys, (0, 0, 0, more)), F.pad(self.values, (0, 0, 0, more))
        self.capacity = max(capacity, self.capacity)
