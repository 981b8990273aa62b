"""The settings of decoding: a tree's shape, how tokens are chosen, where an answer ends. Free of torch, for command lines."""

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from vlm_eagle.config import ImageInputs
from vlm_eagle.errors import UserError

MIN_TEMPERATURE = 1e-5  # logits divided by less could overflow; answers would be greedy long before that
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class TreeShape:
    """SGLang's three parameters, or a fixed tree.

    Attributes:
        num_draft_tokens: nodes the target verifies in one forward, the root included.
        topk: children considered per expanded node; 1 makes a chain.
        num_steps: depth of the tree; None for the most a chain of this size has.
        paths: None lets the draft choose the nodes by cumulative probability (a dynamic tree). Otherwise the nodes are fixed:
            each is the tuple of ranks that leads to it, (0, 1) being the second-best child of the best child of the root.
    """

    num_draft_tokens: int
    topk: int = 1
    num_steps: int | None = None
    paths: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.num_draft_tokens < 1 or self.topk < 1:
            raise UserError("num_draft_tokens and topk must be at least 1.")
        if self.num_steps is None:
            object.__setattr__(self, "num_steps", self.num_draft_tokens - 1)
        steps, k, n = self.depth, self.topk, self.num_draft_tokens
        if n > 1 and steps < 1:
            raise UserError("num_steps must be at least 1 to draft anything.")
        if k == 1 and n != steps + 1:
            raise UserError(
                f"A chain (topk 1) of {steps} steps has {steps + 1} nodes, not {n}. Set num_draft_tokens to num_steps + 1."
            )
        candidates = k + max(steps - 1, 0) * k * k if steps else 0
        if self.paths is None and n - 1 > candidates:
            raise UserError(
                f"num_steps {steps} with topk {k} proposes at most {candidates} tokens, fewer than num_draft_tokens - 1 = "
                f"{n - 1}. Raise num_steps or topk."
            )
        if k == 1 and n > 1:
            object.__setattr__(self, "paths", tuple((0,) * depth for depth in range(1, n)))

    @classmethod
    def fixed(cls, paths: Sequence[Sequence[int]]) -> "TreeShape":
        """The tree of these nodes and the root. Every node's parent must be among them."""
        nodes = sorted({tuple(path) for path in paths}, key=lambda path: (len(path), path))
        orphans = [path for path in nodes if len(path) > 1 and path[:-1] not in nodes]
        if not nodes or () in nodes or orphans:
            raise UserError(f"A fixed tree needs nodes below the root, each with its parent; without one: {orphans or nodes}.")
        topk = max(rank for path in nodes for rank in path) + 1
        if min(rank for path in nodes for rank in path) < 0:
            raise UserError("Ranks in a fixed tree count from 0.")
        return cls(len(nodes) + 1, topk, max(map(len, nodes)), tuple(nodes))

    @classmethod
    def parse(cls, words: Sequence[str]) -> "TreeShape":
        """A fixed tree from the command line: nodes as dotted ranks, "0", "1", "0.0"."""
        try:
            paths = [tuple(int(rank) for rank in word.split(".")) for word in words]
        except ValueError as error:
            raise UserError(f"A fixed tree is a list of dotted ranks such as 0 1 0.0 0.1, found {' '.join(words)}.") from error
        return cls.fixed(paths)

    @property
    def depth(self) -> int:
        """`num_steps`, which `__post_init__` has set."""
        assert self.num_steps is not None
        return self.num_steps

    @property
    def is_chain(self) -> bool:
        """Whether an accepted path is always the first nodes in order, so that caches need no reordering."""
        return self.topk == 1

    @cached_property
    def parents(self) -> list[int]:
        """Of a fixed tree: the parent node of every node, -1 at the root."""
        node_of = {(): 0} | {path: node for node, path in enumerate(self.paths or (), 1)}
        return [-1] + [node_of[path[:-1]] for path in self.paths or ()]

    @property
    def label(self) -> str:
        """A few words for the head of a table column."""
        details = "" if self.is_chain else f" ({self.num_steps} steps, topk {self.topk})"
        return f"{self._kind} of {self.num_draft_tokens}{details}"

    @property
    def _kind(self) -> str:
        return "chain" if self.is_chain else "tree" if self.paths is None else "fixed tree"

    def __str__(self) -> str:
        n = self.num_draft_tokens
        name = self._kind if self.is_chain else f"{self._kind} (steps {self.num_steps}, topk {self.topk})"
        return f"{name} of {n} draft tokens (vLLM: num_speculative_tokens {n - 1})"


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters with vLLM's and SGLang's meaning; temperature 0 is greedy, top_k 0 is off.

    Raises:
        UserError: a value out of range. A temperature above 0 must be at least `MIN_TEMPERATURE` and finite.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature < float("inf"):
            raise UserError(
                f"temperature is {self.temperature}: give 0 for greedy answers, or a finite number from {MIN_TEMPERATURE} on."
            )
        if not 0 < self.top_p <= 1 or self.top_k < 0 or not 0 <= self.min_p <= 1:
            raise UserError(f"Sampling needs 0 < top_p <= 1, top_k >= 0 and 0 <= min_p <= 1, found {self}.")


@dataclass(kw_only=True)
class TreeOptions:
    """A tree on the command line.

    Attributes:
        draft_tokens: nodes verified per target forward, the root included.
        topk: children considered per expanded tree node; 1 drafts a chain.
        num_steps: depth of the tree; none for draft_tokens - 1.
    """

    draft_tokens: int = 8
    topk: int = 1
    num_steps: int | None = None

    @property
    def shape(self) -> TreeShape:
        """The tree, checked."""
        return TreeShape(self.draft_tokens, self.topk, self.num_steps)


@dataclass(kw_only=True)
class SamplingOptions:
    """Sampling on the command line.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling, 1 is off.
        top_k: sample among the k most probable tokens, 0 is off (not the tree's topk).
        min_p: drop tokens below this share of the best one's probability, 0 is off.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen, checked."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to write an answer.

    Attributes:
        shape: the tree; ignored without a draft.
        sampling: how the target chooses tokens.
        sampled_drafts: for a chain at temperature > 0, draw the draft's tokens from its distribution and verify by rejection
            sampling, instead of taking its argmaxes. Both are exact.
        max_new_tokens: exact limit; the answer also ends with the target's first end token.
        stop_strings: the answer also ends with the token that completes one of these.
        eos_ids: tokens that end an answer; None for the target's own.
        image_inputs: what the draft reads at image tokens: the pad token's embedding (vLLM), or the visual one (SGLang).
        seed: of the sampling, 0 .. 2**64 - 1: a number (prompt b then draws with seed + b), one per prompt, or None for
            new ones every time.
    """

    shape: TreeShape = field(default_factory=lambda: TreeShape(4))
    sampling: Sampling = field(default_factory=Sampling)
    sampled_drafts: bool = False
    max_new_tokens: int = 256
    stop_strings: Sequence[str] = ()
    eos_ids: Set[int] | None = None
    image_inputs: ImageInputs = "token"
    seed: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}.")
        if self.sampled_drafts and (self.sampling.temperature == 0 or not self.shape.is_chain):
            raise UserError("Drawn drafts need a temperature above 0 and a chain (topk 1).")
        if isinstance(self.stop_strings, str):
            raise UserError(f"stop_strings is one string, {self.stop_strings!r}. Give a list, as in [{self.stop_strings!r}].")
        if "" in self.stop_strings:
            raise UserError("An empty stop string would end every answer. Leave it out.")
        wrong = [seed for seed in self._given_seeds() if not 0 <= seed <= MAX_SEED]
        if wrong:
            raise UserError(f"seed is {wrong[0]}: give whole numbers from 0 to 2**64 - 1.")

    def _given_seeds(self) -> list[int]:
        return [] if self.seed is None else [self.seed] if isinstance(self.seed, int) else list(self.seed)

    def seeds(self, count: int) -> list[int]:
        """One seed per prompt."""
        if self.seed is None:
            return [random.SystemRandom().getrandbits(64) for _ in range(count)]
        if isinstance(self.seed, int):
            return [(self.seed + b) % (MAX_SEED + 1) for b in range(count)]
        if len(self.seed) != count:
            raise UserError(f"{len(self.seed)} seeds for {count} prompts. Give one per prompt, or a single number.")
        return list(self.seed)
