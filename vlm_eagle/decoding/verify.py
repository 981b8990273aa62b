"""The acceptance walk: which proposed tokens stay, and the bonus token after them."""

from vlm_eagle.decoding.tree import DraftTree


def accept(tree: DraftTree, drawn: list[int]) -> tuple[list[int], int]:
    """Walks down from the root: at each node, descend to the child that holds the token the target drew there.

    This is exact for a deterministic tree: what is committed is always the target's own draw, the tree only decides how many
    draws one forward pass was good for. Greedy is the same walk with argmax as the draw.

    Args:
        tree: N nodes; the children of a node hold different tokens.
        drawn: N tokens, the target's choice after each node.

    Returns:
        The accepted nodes, root first (ascending), and the bonus token.
    """
    tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
    child = {(parents[node], tokens[node]): node for node in range(1, len(tree))}
    path = [0]
    while (path[-1], drawn[path[-1]]) in child:
        path.append(child[path[-1], drawn[path[-1]]])
    return path, drawn[path[-1]]
