"""Sampled speculative decoding has exactly the target's distribution, and the test notices when it has not."""

import itertools
import math
from collections import Counter

import pytest
import torch

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.acceptance import accept, accept_sampled
from vlm_eagle.decoding.generate import Generation, Settings, generate, stream_with
from vlm_eagle.decoding.options import MIN_TEMPERATURE
from vlm_eagle.decoding.sampling import Sampler, Sampling, draw
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.kv_cache import TreeKVCache

VOCABULARY, LENGTH, RUNS = 5, 3, 6_000
DRAFT_IDS = torch.tensor([0, 2, 3])
SAMPLINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.6, top_p=0.9),
    Sampling(temperature=1.3, top_k=3),
    Sampling(temperature=0.8, top_k=4, top_p=0.95, min_p=0.1),
]


def logits_after(context):
    """A made-up language model: fixed logits for every context (hashes of integer tuples are stable)."""
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(hash(context) % 2**31)) * 0.8


def tree_after(context):
    """A made-up deterministic drafter: two children, two below the first, one below that."""
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(hash((10_007, len(context))) % 2**31)).tolist()
    tokens = torch.tensor([[context[-1], order[0], order[1], order[2], order[3], order[0]]])
    return DraftTree.from_parents(tokens, torch.tensor([[-1, 0, 0, 1, 1, 3]]), 3)


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
    """LENGTH tokens by repeated tree verification, RUNS times. All runs at one context are drawn together."""
    sampler, counts, waiting = Sampler(sampling), Counter(), Counter({(0,): RUNS})
    generator = torch.Generator().manual_seed(0)
    while waiting:
        context, runs = waiting.popitem()
        if len(context) > LENGTH:
            counts[context[1 : LENGTH + 1]] += runs
            continue
        for committed in walk(context, sampler, runs, generator):
            waiting[context + committed] += 1
    return counts


def tree_walk(context, sampler, runs, generator, bias=False):
    """What `runs` verifications of the same tree commit."""
    tree = tree_after(context)
    branches = [tuple(tree.tokens[0, row][1:].tolist()) for row in tree.ancestors[0]]
    logits = torch.stack([logits_after(context + branch) for branch in branches]).expand(runs, -1, -1)
    drawn = sampler(logits, torch.rand(runs, len(tree), dtype=torch.float64, generator=generator))
    if bias:
        probabilities = sampler.probabilities(logits)
        for node in range(1, len(tree)):
            parent, token = int(tree.parents[0, node]), int(tree.tokens[0, node])
            likely = probabilities[0, parent, token] >= 0.5 * probabilities[0, parent].max()
            drawn[:, parent] = token if likely else drawn[:, parent]
    many = DraftTree(*(t.expand(runs, *t.shape[1:]) for t in (tree.tokens, tree.parents, tree.depths, tree.ancestors)), 3)
    return committed_by(accept(many, drawn))


def biased_walk(*arguments):
    """Planted bias: a drafted token with at least half the best token's probability is taken without a draw."""
    return tree_walk(*arguments, bias=True)


def committed_by(verdict):
    return [tuple(row[:count]) for row, count in zip(verdict.committed.tolist(), verdict.counts.tolist(), strict=True)]


def draft_logits(context):
    """A made-up drafter over three of the five tokens, not far from the model."""
    noise = torch.randn(3, generator=torch.Generator().manual_seed(hash((7, *context)) % 2**31))
    return logits_after(context)[DRAFT_IDS] + 0.7 * noise


def chain_walk(context, sampler, runs, generator, residual=True):
    """`runs` chains of two tokens drawn from the drafter, verified by rejection sampling."""
    uniform = torch.rand(runs, 3 * 3, dtype=torch.float64, generator=generator)
    contexts, tokens, proposals = [context] * runs, [torch.full((runs,), context[-1])], []
    for step in range(2):
        q = sampler.probabilities(torch.stack([draft_logits(c) for c in contexts]))
        proposals.append(q)
        tokens.append(DRAFT_IDS[draw(q, uniform[:, 6 + step])])
        contexts = [(*c, int(t)) for c, t in zip(contexts, tokens[-1], strict=True)]
    stacked = torch.stack(tokens, 1)
    if not residual:
        uniform[:, :2] = 0.0  # keeps whatever has any probability
    logits = torch.stack([torch.stack([logits_after(c[: len(context) + i]) for i in range(3)]) for c in contexts])
    parents = torch.tensor([[-1, 0, 1]]).expand(runs, -1)
    tree = DraftTree.from_parents(stacked, parents, 2, proposals=torch.stack(proposals, 1))
    return committed_by(accept_sampled(tree, sampler.probabilities(logits), DRAFT_IDS, uniform))


def careless_walk(*arguments):
    """Planted bias: every drafted token the target could have said is kept."""
    return chain_walk(*arguments, residual=False)


def chi_square_z(counts, exact, runs=RUNS):
    """Pearson's statistic as a number of standard deviations above its expectation; rare cells are pooled."""
    common = {s: p for s, p in exact.items() if p * runs >= 5}
    assert all(exact[s] > 0 for s in counts), "a sequence of probability zero was drawn"
    cells = [(counts[s], p * runs) for s, p in common.items()]
    rest = 1 - sum(common.values())
    if rest * runs >= 5:
        cells.append((runs - sum(c for c, _ in cells), rest * runs))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    freedom = len(cells) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"t{s.temperature}-p{s.top_p}-k{s.top_k}-m{s.min_p}")
@pytest.mark.parametrize(("walk", "biased"), [(tree_walk, biased_walk), (chain_walk, careless_walk)], ids=["tree", "drawn"])
def test_joint_distribution_is_the_targets(sampling, walk, biased):
    exact = exact_distribution(sampling)
    assert sum(p * RUNS >= 5 for p in exact.values()) > 20, "too peaked a model for a bias to show"
    assert chi_square_z(sample_sequences(sampling, walk), exact) < 4
    assert chi_square_z(sample_sequences(sampling, biased), exact) > 20


def test_drawn_drafts_are_accepted_more_often():
    """With the draft's distribution close to the target's, drawing accepts about 1 - TV, argmax only p(argmax)."""
    sampler, generator = Sampler(Sampling(temperature=1.0)), torch.Generator().manual_seed(1)
    p = sampler.probabilities(logits_after((0,)))
    q = torch.zeros(VOCABULARY).index_copy(0, DRAFT_IDS, sampler.probabilities(draft_logits((0,))[None])[0])
    first = [c[0] for c in chain_walk((0,), sampler, 4000, generator) if len(c) > 1]
    expected = float(torch.minimum(p, q).sum())
    assert len(first) / 4000 == pytest.approx(expected, abs=0.03)
    assert expected > float(p[DRAFT_IDS[draft_logits((0,)).argmax()]])


def test_draw_inverts_the_distribution_and_never_takes_the_impossible():
    p = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.9, 1.0 - 1e-17], dtype=torch.float64)
    assert draw(p.expand(5, -1), uniform).tolist() == [1, 1, 3, 3, 3]


@pytest.mark.slow
def test_the_real_loop_samples_the_targets_distribution(target, draft):
    """First two tokens about an image, a tree, top-k 2: four sequences, against products of the target's own probabilities."""
    sampling, runs = Sampling(temperature=1.5, top_k=2), 250
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample("describe", 1)])
    sampler, exact = Sampler(sampling), {}
    state = target.prefill(batch)
    first = sampler.probabilities(state.logits)[0]
    for token in first.nonzero().flatten():
        state = target.prefill(batch, TreeKVCache(target.config.num_hidden_layers, batch.input_ids.shape[1] + 1))
        one, depth = torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long)
        logits, _ = target.verify(state.cache, token.view(1, 1), depth, one, state.seq_lens)
        second = sampler.probabilities(logits)[0, 0]
        for after in second.nonzero().flatten():
            exact[int(token), int(after)] = float(first[token] * second[after])
    shape = TreeShape(6, 3, 2)
    counts = Counter(
        tuple(generate(target, batch, draft, Settings(shape=shape, sampling=sampling, max_new_tokens=2, seed=seed))[0].tokens)
        for seed in range(runs)
    )
    statistic = sum((counts[s] - p * runs) ** 2 / (p * runs) for s, p in exact.items())
    assert set(counts) <= set(exact)
    assert statistic < 25  # 3 degrees of freedom: p = 1.5e-5


def three_words(target, temperature):
    """A sampler that lets the target say three tokens alone, and a random draft that knows no others and is often right."""
    sampler, said = Sampler(Sampling(temperature=temperature)), torch.tensor([300, 500, 700])
    nothing = lambda scores: torch.full_like(scores, float("-inf"))
    sampler.warpers.append(lambda _, x: x if x.shape[1] == 3 else nothing(x).index_copy_(1, said, x[:, said]))
    torch.manual_seed(0)
    config = Eagle3Config.for_target(target.config, target.layer_ids, 3)
    return sampler, Eagle3Draft(config, DraftVocab.from_ids(said, config.vocab_size))


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [False, True], ids=["argmax drafts", "drawn drafts"])
def test_the_real_loop_uses_every_random_number_once(target, drawn):
    """The first three tokens of an answer, from a loop of up to two cycles."""
    (sampler, draft), runs, rows = three_words(target, 3.0), 1500, 100
    one = VisionCollator(target.processor, for_generation=True)([mix.sample("arithmetic", 1)])
    exact = {(): 1.0}
    for _ in range(3):
        shorter, exact = exact, {}
        for answer, p in shorter.items():
            ids = torch.cat([one.input_ids, torch.tensor([answer], dtype=torch.long)], dim=1)
            state = target.prefill(Batch(ids, torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool)))
            q = sampler.probabilities(state.logits)[0]
            exact |= {(*answer, token): p * float(q[token]) for token in q.nonzero().flatten().tolist()}
    many = Batch(*(t.expand(rows, -1) for t in (one.input_ids, one.attention_mask, one.loss_mask)))
    decoder = SpeculativeDecoder(target, draft, TreeShape(3), sampler, sampled_drafts=drawn)
    counts, accepted = Counter(), Counter()
    for seed in range(0, runs, rows):
        answers = [Generation() for _ in range(rows)]
        for _ in stream_with(decoder, many, Settings(shape=decoder.shape, max_new_tokens=3, eos_ids=set(), seed=seed), answers):
            pass
        counts.update(tuple(answer.tokens) for answer in answers)
        accepted.update(answer.drafted[1] for answer in answers)
    assert runs / 10 < accepted[True] < 0.9 * runs, "guesses must be right and wrong, or little of the loop is seen"
    assert chi_square_z(counts, exact, runs) < 4


def test_greedy_is_argmax_and_bad_parameters_are_refused():
    logits = torch.randn(4, 9)
    assert torch.equal(Sampler(Sampling())(logits), logits.argmax(-1))
    temperatures = (-1.0, 1e-39, -1e-39, float("nan"), float("inf"))
    shares = ({"top_p": 0.0}, {"top_p": float("nan")}, {"top_p": 1.5}, {"min_p": float("nan")}, {"min_p": 2.0})
    for bad in (*({"temperature": t} for t in temperatures), *shares, {"top_k": -1}):
        with pytest.raises(UserError):
            Sampling(**bad)
    logits[:, 3] = 100.0
    assert Sampler(Sampling(temperature=MIN_TEMPERATURE))(logits, torch.full((4,), 0.999)).tolist() == [3] * 4


@pytest.mark.parametrize("seed", [-1, 2**64, [0, -5], [2**64]])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(UserError, match=r"give whole numbers from 0 to 2\*\*64 - 1"):
        Settings(seed=seed)
    assert Settings(seed=2**64 - 1).seeds(2) == [2**64 - 1, 0]


def plain_distribution(logits, sampling):
    """The processed distribution, token by token, by the definitions of its four parameters."""
    scaled = [x / sampling.temperature for x in logits]
    weights = [math.exp(x - max(scaled)) for x in scaled]
    kept = sorted(range(len(logits)), key=lambda token: -weights[token])
    kept = kept[: sampling.top_k or None]
    total, mass, nucleus = sum(weights[t] for t in kept), 0.0, []
    for token in kept:  # the fewest likely tokens that together have top_p
        if mass >= sampling.top_p * total:
            break
        mass += weights[token]
        nucleus.append(token)
    nucleus = [t for t in nucleus if weights[t] >= sampling.min_p * weights[nucleus[0]]]
    total = sum(weights[t] for t in nucleus)
    return [weights[t] / total if t in nucleus else 0.0 for t in range(len(logits))]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.5, min_p=0.2),
        Sampling(temperature=2.0, min_p=0.2),
        Sampling(temperature=2.0, min_p=0.05, top_p=0.8),
        Sampling(temperature=0.7, top_k=6, top_p=0.9, min_p=0.1),
    ],
    ids=str,
)
def test_the_distribution_is_that_of_its_definitions(sampling):
    """min_p is relative to the likeliest token's probability after the temperature."""
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
    ours = Sampler(sampling).probabilities(logits)
    torch.testing.assert_close(ours, torch.tensor([plain_distribution(x, sampling) for x in logits.tolist()]).double())
