"""Chooses the tree that should be fastest here: measures costs and acceptance once, and lets the speed model decide.

    speedup = tau / (r_verify + r_extend + r_draft + r_overhead), each a ratio to one plain decode step

Costs depend on the machine and the target, acceptance on the draft and the prompts; neither can be known beforehand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from vlm_eagle.decoding.acceptance import VerifyResult
from vlm_eagle.decoding.decode_loop import NO_DRAFT, DecodeLoop
from vlm_eagle.decoding.plain import PlainDecoder
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.timing import measure_cycles, now
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

PROBE = TreeShape(48, topk=4, num_steps=7)
CHAINS = tuple(TreeShape(n) for n in range(2, 9))
TREES = tuple(TreeShape(n, PROBE.topk, d) for d in range(2, 8) for n in (6, 8, 12, 16, 24, 32, 48) if n - 1 <= 4 + (d - 1) * 16)


@dataclass(frozen=True)
class Forecast:
    """What the speed model says of a shape."""

    shape: TreeShape
    acceptance_length: float
    seconds: float  # per cycle
    speedup: float


@dataclass(frozen=True)
class Acceptance:
    """One verification of the probe tree.

    Attributes:
        ranks: of every accepted node, in order of depth: how many nodes at most as deep as d had a better score, for
            every d: ranks[i][d - 1] is that of the node at depth i + 1.
        chain: accepted nodes from the root on that were all their parent's best child.
    """

    ranks: tuple[tuple[int, ...], ...]
    chain: int

    def tokens(self, shape: TreeShape) -> int:
        """What `shape` would have committed: a smaller dynamic tree is the best-scored part of a larger one."""
        if shape.is_chain:
            return 1 + min(self.chain, shape.depth)
        kept = 0
        while kept < min(len(self.ranks), shape.depth) and self.ranks[kept][shape.depth - 1] < shape.num_draft_tokens - 1:
            kept += 1
        return 1 + kept


def choose_shape(
    target: Target, draft: Eagle3Draft, prompts: Sequence[Batch], *, sampling: Sampling | None = None, max_new_tokens: int = 64
) -> list[Forecast]:
    """Forecasts for all candidate shapes and for no draft at all (the shape of 1 node), the fastest first.

    Args:
        target: the target.
        draft: its draft.
        prompts: a few prompts (B = 1 each) like those to come.
        sampling: as it will be used; None for greedy.
        max_new_tokens: longest answer looked at.
    """
    sampler = Sampler(sampling or Sampling())
    seen = [a for prompt in prompts for a in observe(target, draft, prompt, sampler, max_new_tokens)]
    longest = max(prompts, key=lambda prompt: prompt.input_ids.shape[1])
    plain = measure_cycles(PlainDecoder(target, sampler), longest, 9).total
    costs = _Costs(target, draft, longest, sampler)
    forecasts = [Forecast(NO_DRAFT, 1.0, plain, 1.0)]
    for shape in (*CHAINS, *TREES):
        tau, seconds = sum(a.tokens(shape) for a in seen) / max(len(seen), 1), costs.of(shape)
        forecasts.append(Forecast(shape, tau, seconds, tau * plain / seconds))
    return sorted(forecasts, key=lambda forecast: -forecast.speedup)


def observe(target: Target, draft: Eagle3Draft, prompt: Batch, sampler: Sampler, max_new_tokens: int) -> list[Acceptance]:
    """Answers a prompt with the probe tree; what was accepted, verification by verification."""
    decoder = SpeculativeDecoder(target, draft, PROBE, sampler)
    decoder.prefill(prompt, max_new_tokens, [0])
    active, seen, written = torch.ones(1, dtype=torch.bool, device=target.device), [], 1
    while written < max_new_tokens - PROBE.depth:
        result = decoder.cycle(active)
        (tokens,) = result.to_host()
        decoder.on_commit([tokens])
        seen.append(acceptance_of(decoder.tree, result))
        written += len(tokens)
        if target.eos_ids & set(tokens):
            break
    return seen


def acceptance_of(tree: DraftTree, result: VerifyResult) -> Acceptance:
    """How the accepted nodes of a dynamic tree (B = 1) ranked by its scores."""
    assert tree.scores is not None, "a dynamic tree has scores"
    scores, depths, parents = (t[0].tolist() for t in (tree.scores, tree.depths, tree.parents))
    path = result.path[0, 1 : int(result.counts[0])].tolist()
    better = lambda node, d: sum(
        depths[i] <= d and (scores[i], -i) > (scores[node], -node) for i in range(1, len(scores)) if i != node
    )
    best_child = lambda node: scores[node] == max(s for s, p in zip(scores, parents, strict=True) if p == parents[node])
    chain = next((i for i, node in enumerate(path) if not best_child(node)), len(path))
    return Acceptance(tuple(tuple(better(node, d) for d in range(1, tree.depth + 1)) for node in path), chain)


class _Costs:
    """Seconds per cycle of any shape from few measurements: verification by tree size, the rest by kind of tree and depth."""

    def __init__(self, target: Target, draft: Eagle3Draft, prompt: Batch, sampler: Sampler):
        self.target = target
        self.kinds = {}
        for chain, shape in ((True, CHAINS[3]), (False, TreeShape(16, PROBE.topk, 4))):
            cost = measure_cycles(SpeculativeDecoder(target, draft, shape, sampler), prompt, 7)
            self.kinds[chain] = cost.draft / shape.depth, cost.extend, cost.overhead
        sizes = sorted({shape.num_draft_tokens for shape in (*CHAINS, *TREES)})
        decoder = PlainDecoder(target, sampler)
        decoder.prefill(prompt, max(sizes), [0])
        self.verify = {n: self._time_verify(decoder, n) for n in sizes}

    def of(self, shape: TreeShape) -> float:
        level, extend, overhead = self.kinds[shape.is_chain]
        return self.verify[shape.num_draft_tokens] + level * shape.depth + extend + overhead

    def _time_verify(self, decoder: DecodeLoop, n: int, repeats: int = 7) -> float:
        tokens = decoder.state.root.expand(1, n)
        depths, seen = torch.arange(n, device=tokens.device)[None], torch.ones(1, n, n, dtype=torch.bool, device=tokens.device)
        seqs, times = decoder.state.seq_lens(decoder.cached.max_length), []
        for _ in range(repeats):
            start = now(self.target.device)
            self.target.verify(decoder.cache, tokens, depths, seen.tril(), seqs)
            times.append(now(self.target.device) - start)
        return median(times[1:])
