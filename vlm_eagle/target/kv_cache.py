"""A key-value cache for trees of tokens: allocated once, written by slot, compacted to the accepted path. Target and draft
both use it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class SeqLens:
    """How far B sequences have come.

    Attributes:
        lengths: (B,) int64, committed entries in the cache.
        rope_delta: (B,) int64, added to the sequence index of every token after the prompt (M-RoPE; 0 for text).
        max: at least the largest of `lengths`, known to the host without asking the device.
    """

    lengths: Tensor
    rope_delta: Tensor
    max: int


@dataclass
class _WriteSlots:
    """Where the next forward's keys and values go, for all layers at once.

    Layers hold this record instead of the cache, which holds them: a circle of references would keep a dropped cache's memory
    until Python's cycle collector runs.

    Attributes:
        capacity: entries allocated per sequence.
        slots: (B, R) int64; None for R consecutive entries, the same in every sequence.
        first: the first of these; None for a prompt that is read from its beginning.
        kv_len: entries that the forward sees, under its mask.
    """

    capacity: int
    slots: Tensor | None = None
    first: int | None = None
    kv_len: int = 0


class TreeKVCache(Cache):
    """Keys and values of B sequences for all layers, each (B, H_kv, capacity, K).

    Entries 0 .. lengths[b] - 1 of sequence b are committed. A tree's nodes are written behind them, and `compact` moves the
    accepted ones to the front of the tree. Everything further is stale and must be masked. Callers keep the
    lengths (`SeqLens`); the host never needs to know them here.
    """

    layers: list["_TreeLayer"]

    def __init__(self, num_layers: int, capacity: int):
        self.write = _WriteSlots(capacity)
        super().__init__(layers=[_TreeLayer(self.write) for _ in range(num_layers)])

    @property
    def capacity(self) -> int:
        """Entries allocated per sequence."""
        return self.write.capacity

    def start_prefill(self) -> None:
        """The next forward reads whole prompts: its keys and values go to 0 .. T - 1 and see only each other."""
        self.write.slots = self.write.first = None

    def set_slots(self, slots: Tensor, kv_len: int) -> None:
        """The next forward's R tokens go to `slots` (B, R) and see (under their mask) the first `kv_len` entries."""
        self.write.slots, self.write.first, self.write.kv_len = slots, None, kv_len

    def set_next_slot(self, length: int) -> None:
        """The next forward's one token per sequence goes behind `length` committed entries, the same number in all."""
        self.write.slots, self.write.first, self.write.kv_len = None, length, length + 1

    def compact(self, lengths: Tensor, path: Tensor) -> None:
        """Moves the nodes `path` (B, P) of the tree behind `lengths` (B,) to the tree's first P places, in this order."""
        source = lengths[:, None] + path
        goal = lengths[:, None] + torch.arange(path.shape[1], device=path.device)
        for layer in self.layers:
            layer.move(source, goal)

    def reserve(self, capacity: int) -> None:
        """Makes room for at least `capacity` entries; committed ones stay."""
        if capacity > self.capacity:
            self.write.capacity = capacity
            for layer in self.layers:
                layer.enlarge(capacity)


class _TreeLayer(CacheLayerMixin):
    """One layer, allocated at first use, on the device where it computes and with the head count it has."""

    keys: Tensor
    values: Tensor

    def __init__(self, write: _WriteSlots):
        super().__init__()
        self.write = write

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        b, h, _, k = key_states.shape
        # zeros, because a masked entry still takes part with weight 0, and 0 * nan is nan
        self.keys = key_states.new_zeros(b, h, self.write.capacity, k)
        self.values = value_states.new_zeros(b, h, self.write.capacity, k)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        write = self.write
        if write.slots is not None:
            index = write.slots.to(self.keys.device)[:, None, :, None].expand_as(key_states)
            self.keys.scatter_(2, index, key_states)
            self.values.scatter_(2, index, value_states)
        else:
            new = slice(write.first or 0, (write.first or 0) + key_states.shape[2])
            self.keys[:, :, new], self.values[:, :, new] = key_states, value_states
            if write.first is None:
                return key_states, value_states
        return self.keys[:, :, : write.kv_len], self.values[:, :, : write.kv_len]

    def move(self, source: Tensor, goal: Tensor) -> None:
        b, h, _, k = self.keys.shape
        source, goal = (i.to(self.keys.device)[:, None, :, None].expand(b, h, -1, k) for i in (source, goal))
        self.keys.scatter_(2, goal, self.keys.gather(2, source))
        self.values.scatter_(2, goal, self.values.gather(2, source))

    def enlarge(self, capacity: int) -> None:
        if self.is_initialized:
            more = capacity - self.keys.shape[2]
            self.keys, self.values = (F.pad(t, (0, 0, 0, more)) for t in (self.keys, self.values))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Only asked for whole prompts: verifications bring their own mask."""
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.write.capacity

    get_max_cache_shape = get_max_length  # its name up to transformers 5.12
