"""Tree shapes, the acceptance walk, and the dynamic tree against a plain search."""

import itertools

import pytest
import torch
from conftest import make_draft
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vlm_eagle.decoding.acceptance import accept
from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.target.kv_cache import SeqLens


def test_shapes_that_cannot_be():
    for bad in [(5, 1, 3), (4, 2, 0), (50, 2, 3), (0, 1, None), (4, 0, 3)]:
        with pytest.raises(UserError):
            TreeShape(*bad)
    assert TreeShape(4).num_steps == 3
    assert "num_speculative_tokens 3" in str(TreeShape(4))


def test_fixed_shapes():
    shape = TreeShape.fixed([(0, 1), (0,), (1,), (0, 1, 0)])
    assert (shape.num_draft_tokens, shape.topk, shape.num_steps) == (5, 2, 3)
    assert shape.parents == [-1, 0, 0, 1, 3]
    assert not shape.is_chain
    assert TreeShape(4).parents == [-1, 0, 1, 2]
    for bad in ([], [(0, 1)], [()], [(0,), (-1,)]):
        with pytest.raises(UserError):
            TreeShape.fixed(bad)


def tree_of(tokens, parents):
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    return DraftTree.from_parents(torch.tensor([tokens]), torch.tensor([parents]), max(depths))


def test_depths_and_ancestors():
    tree = tree_of([7, 1, 2, 3, 4], [-1, 0, 0, 1, 3])
    assert tree.depths.tolist() == [[0, 1, 1, 2, 3]]
    assert tree.depth == 3
    expected = [{0}, {0, 1}, {0, 2}, {0, 1, 3}, {0, 1, 3, 4}]
    assert [set(row.nonzero().flatten().tolist()) for row in tree.ancestors[0]] == expected


def plain_accept(tokens, parents, drawn):
    """The walk, node by node."""
    path = [0]
    while True:
        down = [i for i, p in enumerate(parents) if p == path[-1] and tokens[i] == drawn[path[-1]]]
        if not down:
            return path, [tokens[i] for i in path[1:]] + [drawn[path[-1]]]
        path.append(down[0])


@pytest.mark.parametrize(
    ("drawn", "path", "committed"),
    [
        ([1, 3, 0, 4, 9], [0, 1, 3, 4], [1, 3, 4, 9]),  # the whole branch, then the bonus of its leaf
        ([2, 3, 5, 4, 9], [0, 2], [2, 5]),  # a leaf at depth 1
        ([8, 3, 5, 4, 9], [0], [8]),  # nothing accepted
        ([1, 4, 5, 4, 9], [0, 1], [1, 4]),  # token 4 exists, but not below node 1
    ],
)
def test_acceptance_walk(drawn, path, committed):
    tokens, parents = [7, 1, 2, 3, 4], [-1, 0, 0, 1, 3]
    verdict = accept(tree_of(tokens, parents), torch.tensor([drawn]))
    count = int(verdict.counts)
    assert verdict.path[0, :count].tolist() == path
    assert verdict.committed[0, :count].tolist() == committed
    assert plain_accept(tokens, parents, drawn) == (path, committed)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_acceptance_equals_the_plain_walk(data):
    """Random trees in a batch of two, random draws."""
    rows = []
    size = data.draw(st.integers(2, 12))
    for _ in range(2):
        tokens, parents = [0], [-1]
        for node in range(1, size):
            parents.append(data.draw(st.integers(0, node - 1)))
            taken = {tokens[i] for i in range(node) if parents[i] == parents[node]}
            tokens.append(data.draw(st.sampled_from([t for t in range(size + 1) if t not in taken])))
        rows.append((tokens, parents, [data.draw(st.integers(0, 4)) for _ in range(size)]))
    tokens, parents, drawn = (torch.tensor(column) for column in zip(*rows, strict=True))
    verdict = accept(DraftTree.from_parents(tokens, parents, size - 1), drawn)
    for b, row in enumerate(rows):
        count = int(verdict.counts[b])
        assert (verdict.path[b, :count].tolist(), verdict.committed[b, :count].tolist()) == plain_accept(*row)


def seqs_of(*lengths):
    return SeqLens(torch.tensor(lengths), torch.zeros(len(lengths), dtype=torch.long), max(lengths))


def plain_tree(draft, target, aux, next_tokens, shape):
    """The same tree by recomputing every branch from scratch: {branch tokens: cumulative log-probability}."""

    def predict(branch):
        hidden, rows = draft.fuse(aux), len(next_tokens)
        keys, values = [], []

        def attend(q, k, v):
            keys.append(k)
            values.append(v)
            return F.scaled_dot_product_attention(
                q, torch.cat(keys, 2), torch.cat(values, 2), is_causal=len(keys) == 1, enable_gqa=True
            )

        hidden = draft.step(hidden[None], target.embed_tokens(next_tokens)[None], torch.arange(rows)[None], attend)[:, -1:]
        for depth, token in enumerate(branch):
            hidden = draft.step(hidden, target.embed_tokens(torch.tensor([[token]])), torch.tensor([[rows + depth]]), attend)
        return draft.logits(hidden[0, 0]).log_softmax(-1)

    frontier, proposed, frontier_path = {(): 0.0}, {}, {}
    for _ in range(shape.num_steps):
        children, ranks = {}, {}
        for branch, (score, path) in {b: (s, frontier_path.get(b, ())) for b, s in frontier.items()}.items():
            top = predict(branch).topk(shape.topk)
            for rank, (value, index) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
                child = (*branch, int(draft.target_ids[index]))
                children[child], ranks[child] = score + value, (*path, rank)
        if shape.paths is not None:
            children = {branch: score for branch, score in children.items() if ranks[branch] in shape.paths}
        proposed |= children
        width = None if shape.paths is not None else shape.topk
        frontier = dict(sorted(children.items(), key=lambda item: -item[1])[:width])
        frontier_path.update({branch: ranks[branch] for branch in frontier})
    return dict(sorted(proposed.items(), key=lambda item: -item[1])[: shape.num_draft_tokens - 1])


FIXED = TreeShape.fixed(
    [(0,), (1,), (2,), (0, 0), (0, 1), (2, 0), (2, 1), (0, 1, 0), (2, 0, 0), (2, 1, 0), (2, 1, 2), (2, 1, 2, 0)]
)
WIDE = TreeShape(48, 4, 4)  # nearly all that is proposed is kept: a row that looked at another's parent would show


@pytest.mark.parametrize("shape", [TreeShape(4), TreeShape(8, 3, 3), TreeShape(14, 4, 4), WIDE, FIXED], ids=str)
def test_trees_equal_a_plain_search(target, shape):
    """Two sequences of different length side by side, each after an earlier tree whose rows must not leak."""
    draft = make_draft(target)
    torch.manual_seed(3)
    aux, tokens = torch.randn(2, 6, 3 * target.config.hidden_size), torch.randint(0, 1000, (2, 6))
    drafter = Drafter(draft, target.embed_tokens, shape)
    drafter.reserve(16)
    hidden = drafter.prefill(aux[:, :4], drafter.embed_tokens(tokens[:, :4]), seqs_of(4, 3))
    drafter.propose(hidden, torch.tensor([5, 6]), seqs_of(4, 3))
    counts = torch.tensor([2, 1])
    aux[1, 3], tokens[1, 3] = aux[1, 4], tokens[1, 4]
    seqs = seqs_of(6, 4)
    hidden, lengths = drafter.extend(hidden, aux[:, 4:], tokens[:, 4:], seqs, counts), seqs.lengths
    tree = drafter.propose(hidden, tokens.gather(1, lengths[:, None] - 1)[:, 0], seqs)
    for b, length in enumerate(lengths.tolist()):
        with torch.no_grad():
            expected = plain_tree(draft, target, aux[b, :length], tokens[b, :length], shape)
        branches = {tuple(tree.tokens[b][row].tolist())[1:] for row in tree.ancestors[b, 1:]}
        assert branches == set(expected)
        if tree.scores is not None:
            assert sorted(tree.scores[b, 1:].tolist()) == pytest.approx(sorted(expected.values()), abs=1e-4)
    assert len(tree) == shape.num_draft_tokens


def test_children_of_a_node_differ_and_parents_come_first(target):
    draft = make_draft(target, draft_vocab_size=16)
    drafter = Drafter(draft, target.embed_tokens, TreeShape(20, 4, 3))
    drafter.reserve(8)
    aux, tokens = torch.randn(1, 3, 3 * target.config.hidden_size), torch.tensor([[5, 6, 7]])
    hidden = drafter.prefill(aux, drafter.embed_tokens(tokens), seqs_of(3))
    tree = drafter.propose(hidden, torch.tensor([7]), seqs_of(3))
    pairs = list(zip(tree.parents[0].tolist(), tree.tokens[0].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert all(parent < node for node, parent in enumerate(tree.parents[0].tolist()))


def test_a_tree_wider_than_the_draft_vocabulary_is_refused(target):
    draft = make_draft(target, draft_vocab_size=16)
    with pytest.raises(UserError, match="topk 17 exceeds the draft vocabulary of 16"):
        Drafter(draft, target.embed_tokens, TreeShape(18, 17, 1))
    Drafter(draft, target.embed_tokens, TreeShape(17, 16, 1))


def test_statistics_are_sums():
    stats = AcceptanceStats()
    for accepted, tokens in [(3, 4), (0, 1), (1, 2), (2, 2)]:  # the last one lost its bonus to the length limit
        stats.record(accepted=accepted, tokens=tokens, depth=3)
    assert (stats.forwards, stats.tokens) == (4, 9)
    assert stats.acceptance_length == 9 / 4
    assert stats.accepted_at == [3, 2, 1]
    assert stats.by_position == [3 / 4, 2 / 4, 1 / 4]
    assert stats.conditional == [3 / 4, 2 / 3, 1 / 2]
    total = AcceptanceStats()
    for part, _ in itertools.product([stats], range(2)):
        total += part
    assert (total.forwards, total.tokens, total.accepted_at) == (8, 18, [6, 4, 2])
