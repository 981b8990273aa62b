"""Tree shapes, the acceptance walk, and the dynamic tree against a plain search."""

import itertools

import pytest
import torch
from conftest import make_draft

from vlm_eagle.decoding.drafter import Drafter
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import DraftTree, TreeShape
from vlm_eagle.decoding.verify import accept
from vlm_eagle.errors import UserError


def test_shapes_that_cannot_be():
    for bad in [(5, 1, 3), (4, 2, 0), (50, 2, 3), (0, 1, None), (4, 0, 3)]:
        with pytest.raises(UserError):
            TreeShape(*bad)
    assert TreeShape(4).num_steps == 3
    assert "num_speculative_tokens 3" in str(TreeShape(4))


def test_depths_and_ancestors():
    tree = DraftTree.from_parents([7, 1, 2, 3, 4], [-1, 0, 0, 1, 3])
    assert tree.depths.tolist() == [0, 1, 1, 2, 3]
    assert tree.depth == 3
    expected = [{0}, {0, 1}, {0, 2}, {0, 1, 3}, {0, 1, 3, 4}]
    assert [set(row.nonzero().flatten().tolist()) for row in tree.ancestors] == expected


def test_acceptance_walk():
    tree = DraftTree.from_parents([7, 1, 2, 3, 4], [-1, 0, 0, 1, 3])
    assert accept(tree, [1, 3, 0, 4, 9]) == ([0, 1, 3, 4], 9)  # the whole branch, then the bonus of its leaf
    assert accept(tree, [2, 3, 5, 4, 9]) == ([0, 2], 5)  # a leaf at depth 1
    assert accept(tree, [8, 3, 5, 4, 9]) == ([0], 8)  # nothing accepted
    assert accept(tree, [1, 4, 5, 4, 9]) == ([0, 1], 4)  # token 4 exists, but not below node 1


def plain_tree(draft, target, aux, next_tokens, shape):
    """The same tree by recomputing every branch from scratch: {branch tokens: cumulative log-probability}."""

    def predict(branch):
        drafter = Drafter(draft, target.embed_tokens, TreeShape(max(len(branch), 1) + 1))
        drafter.extend(aux, next_tokens)
        hidden = drafter.hidden
        drafter.attend.start_tree()
        for depth, token in enumerate(branch, 1):
            drafter.attend.descend(torch.tensor([0]))
            position = torch.tensor([[len(next_tokens) - 1 + depth]])
            hidden = draft.step(hidden, target.embed_tokens(torch.tensor([[token]])), position, drafter.attend.expand)
        return draft.logits(hidden[0, 0]).log_softmax(-1)

    frontier, proposed = {(): 0.0}, {}
    for _ in range(shape.num_steps):
        children = {}
        for branch, score in frontier.items():
            top = predict(branch).topk(shape.topk)
            for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                children[(*branch, int(draft.target_ids[index]))] = score + value
        proposed |= children
        frontier = dict(sorted(children.items(), key=lambda item: -item[1])[: shape.topk])
    return dict(sorted(proposed.items(), key=lambda item: -item[1])[: shape.num_draft_tokens - 1])


@pytest.mark.parametrize("shape", [TreeShape(4), TreeShape(8, 3, 3), TreeShape(14, 4, 4)], ids=str)
def test_dynamic_tree_equals_plain_search(target, shape):
    draft = make_draft(target)
    torch.manual_seed(3)
    aux, next_tokens = torch.randn(6, 3 * target.config.hidden_size), torch.randint(0, 1000, (6,))
    drafter = Drafter(draft, target.embed_tokens, shape)
    drafter.extend(aux[:4], next_tokens[:4])
    drafter.grow(int(next_tokens[3]))  # a first tree whose rows must not leak into the second
    drafter.extend(aux[4:], next_tokens[4:])
    tree = drafter.grow(int(next_tokens[5]))
    with torch.no_grad():
        expected = plain_tree(draft, target, aux, next_tokens, shape)
    branches = {tuple(tree.tokens[row].tolist())[1:] for row in tree.ancestors[1:]}
    assert branches == set(expected)
    assert len(tree) == shape.num_draft_tokens


def test_children_of_a_node_differ_and_parents_come_first(target):
    draft = make_draft(target, draft_vocab_size=16)
    drafter = Drafter(draft, target.embed_tokens, TreeShape(20, 4, 3))
    drafter.extend(torch.randn(3, 3 * target.config.hidden_size), torch.tensor([5, 6, 7]))
    tree = drafter.grow(7)
    pairs = list(zip(tree.parents.tolist(), tree.tokens.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert all(parent < node for node, parent in enumerate(tree.parents.tolist()))


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
