"""Sampled speculative decoding has exactly the target's distribution, and the test notices when it has not."""

import itertools
import math
from collections import Counter

import pytest
import torch

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import generate
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import accept
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError

VOCABULARY, LENGTH, RUNS = 5, 3, 6_000
SAMPLINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.6, top_p=0.9),
    Sampling(temperature=1.3, top_k=3),
    Sampling(temperature=0.8, top_k=4, top_p=0.95, min_p=0.1),
]


def logits_after(context):
    """A made-up language model: fixed logits for every context (hashes of integer tuples are stable)."""
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(hash(context) % 2**31)) * 1.5


def tree_after(context):
    """A made-up deterministic drafter: two children, two below the first, one below that."""
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(hash((10_007, len(context))) % 2**31)).tolist()
    return DraftTree.from_parents([context[-1], order[0], order[1], order[2], order[3], order[0]], [-1, 0, 0, 1, 1, 3])


def exact_distribution(sampling):
    sampler, joint = Sampler(sampling), {}
    for sequence in itertools.product(range(VOCABULARY), repeat=LENGTH):
        p, context = 1.0, (0,)
        for token in sequence:
            p *= float(sampler.probabilities(logits_after(context)[None])[0, token])
            context += (token,)
        joint[sequence] = p
    return joint


def sample_sequences(sampling, walk):
    """LENGTH tokens by repeated tree verification, RUNS times."""
    sampler, counts, known = Sampler(sampling, torch.Generator().manual_seed(0)), Counter(), {}
    for _ in range(RUNS):
        context = (0,)
        while len(context) <= LENGTH:
            if context not in known:
                tree = tree_after(context)
                branches = [tuple(tree.tokens[row][1:].tolist()) for row in tree.ancestors]
                known[context] = tree, torch.stack([logits_after(context + branch) for branch in branches])
            tree, logits = known[context]
            path, bonus = walk(tree, sampler, logits)
            context += (*tree.tokens[path][1:].tolist(), bonus)
        counts[context[1 : LENGTH + 1]] += 1
    return counts


def chi_square_z(counts, exact):
    """Pearson's statistic as a number of standard deviations above its expectation; rare cells are pooled."""
    common = {s: p for s, p in exact.items() if p * RUNS >= 5}
    assert all(exact[s] > 0 for s in counts), "a sequence of probability zero was drawn"
    cells = [(counts[s], p * RUNS) for s, p in common.items()]
    rest = 1 - sum(common.values())
    if rest * RUNS >= 5:
        cells.append((RUNS - sum(c for c, _ in cells), rest * RUNS))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    freedom = len(cells) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def exact_walk(tree, sampler, logits):
    return accept(tree, sampler(logits).tolist())


def biased_walk(tree, sampler, logits):
    """Planted bias: a drafted token with at least half the best token's probability is taken without a draw."""
    drawn = sampler(logits).tolist()
    probabilities = sampler.probabilities(logits)
    for node in range(1, len(tree)):
        parent, token = int(tree.parents[node]), int(tree.tokens[node])
        if probabilities[parent, token] >= 0.5 * probabilities[parent].max():
            drawn[parent] = token
    return accept(tree, drawn)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"t{s.temperature}-p{s.top_p}-k{s.top_k}-m{s.min_p}")
def test_joint_distribution_is_the_targets(sampling):
    exact = exact_distribution(sampling)
    assert chi_square_z(sample_sequences(sampling, exact_walk), exact) < 4
    assert chi_square_z(sample_sequences(sampling, biased_walk), exact) > 20


def test_the_real_loop_samples_the_targets_distribution(target, draft):
    """First two tokens about an image, a tree, top-k 2: four sequences, against products of the target's own probabilities."""
    sampling, runs = Sampling(temperature=1.5, top_k=2), 250
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 1)])
    sampler, exact = Sampler(sampling), {}
    state = target.prefill(batch)
    first = sampler.probabilities(state.logits[None])[0]
    for token in first.nonzero().flatten():
        state = target.prefill(batch)
        one, depth = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
        logits, _ = target.verify(state.cache, token[None], depth, one, state.rope_delta)
        second = sampler.probabilities(logits)[0]
        for after in second.nonzero().flatten():
            exact[int(token), int(after)] = float(first[token] * second[after])
    shape = TreeShape(6, 3, 2)
    counts = Counter(
        tuple(generate(target, batch, draft, shape=shape, sampling=sampling, max_new_tokens=2, seed=seed).tokens)
        for seed in range(runs)
    )
    statistic = sum((counts[s] - p * runs) ** 2 / (p * runs) for s, p in exact.items())
    assert set(counts) <= set(exact)
    assert statistic < 25  # 3 degrees of freedom: p = 1.5e-5


def test_greedy_is_argmax_and_bad_parameters_are_refused():
    logits = torch.randn(4, 9)
    assert torch.equal(Sampler(Sampling())(logits), logits.argmax(-1))
    for bad in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}, {"min_p": 2.0}):
        with pytest.raises(UserError):
            Sampling(**bad)
