"""Statistics of speculative decoding: tokens, forwards, and how often each proposed position was accepted."""

from dataclasses import dataclass, field


@dataclass
class AcceptanceStats:
    """Sums over verifications; combine with `+=`. Ratios are of sums, never means of means.

    Attributes:
        forwards: verification forwards of the target (the prefill does not count).
        tokens: tokens they committed, bonus included; what an end token or the length limit cut off is not counted.
        accepted_at: accepted_at[i] verifications committed at least i + 1 proposed tokens.
        uncut_accepted_at: likewise, with proposed tokens that an end token or the length limit cut off.

    An answer has one token more than its verifications committed: the first, from the prefill.
    """

    forwards: int = 0
    tokens: int = 0
    accepted_at: list[int] = field(default_factory=list)
    uncut_accepted_at: list[int] = field(default_factory=list)

    def record(self, accepted: int, tokens: int, depth: int, uncut: int | None = None) -> None:
        """One verification of a tree of this depth that committed `tokens`, `accepted` of them proposed by the draft, `uncut`
        before the answer was cut (None: the same)."""
        self.forwards += 1
        self.tokens += tokens
        _add(self.accepted_at, [int(i < accepted) for i in range(depth)])
        _add(self.uncut_accepted_at, [int(i < (accepted if uncut is None else uncut)) for i in range(depth)])

    def __iadd__(self, other: "AcceptanceStats") -> "AcceptanceStats":
        self.forwards += other.forwards
        self.tokens += other.tokens
        _add(self.accepted_at, other.accepted_at)
        _add(self.uncut_accepted_at, other.uncut_accepted_at)
        return self

    @property
    def acceptance_length(self) -> float:
        """tau: tokens per forward; 1.0 means no gain, 0.0 no forward yet."""
        return self.tokens / self.forwards if self.forwards else 0.0

    @property
    def by_position(self) -> list[float]:
        """P(i-th proposed token accepted), unconditional, i = 1.."""
        return [count / self.forwards for count in self.accepted_at] if self.forwards else []

    @property
    def conditional(self) -> list[float]:
        """P(i-th proposed token accepted, given that all before it were)."""
        before = [self.forwards, *self.accepted_at]
        return [now / was if was else 0.0 for now, was in zip(self.accepted_at, before, strict=False)]


def _add(sums: list[int], counts: list[int]) -> None:
    sums += [0] * (len(counts) - len(sums))
    for i, count in enumerate(counts):
        sums[i] += count
