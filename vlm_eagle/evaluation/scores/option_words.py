"""Trees and samplings as words on the command line: several of each make the columns of a table."""

import re
from collections.abc import Sequence

from vlm_eagle.decoding.options import Sampling, TreeShape
from vlm_eagle.errors import UserError

SAMPLINGS = {
    "greedy": Sampling(),
    "qwen3": Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0),  # what Qwen3's model cards recommend for thinking
    "sampled": Sampling(temperature=1.0),
}


def parse_samplings(names: Sequence[str]) -> list[Sampling]:
    """Samplings by name, each once.

    Raises:
        UserError: a name that does not exist.
    """
    unknown = [name for name in names if name not in SAMPLINGS]
    if unknown:
        raise UserError(f"No sampling is called {', '.join(unknown)}. There are {', '.join(SAMPLINGS)}.")
    return [SAMPLINGS[name] for name in dict.fromkeys(names)]


def parse_trees(words: Sequence[str]) -> list[TreeShape]:
    """Trees as the founding documents write them: `5,4,16` is num_steps, topk, num_draft_tokens; `chain4` a chain of 4.

    Raises:
        UserError: a word of another form, or a tree that cannot be.
    """
    return list(dict.fromkeys(_parse_tree(word) for word in words))


def _parse_tree(word: str) -> TreeShape:
    if chain := re.fullmatch(r"chain-?(\d+)", word):
        return TreeShape(int(chain[1]))
    if tree := re.fullmatch(r"(\d+),(\d+),(\d+)", word):
        steps, topk, nodes = map(int, tree.groups())
        return TreeShape(nodes, topk, steps)
    raise UserError(f"{word!r} is not a tree. Write num_steps,topk,num_draft_tokens as in 5,4,16, or a chain as in chain4.")


def sampling_label(sampling: dict[str, float]) -> str:
    """As founding tables name it: T=0.6."""
    return f"T={sampling['temperature']:g}"
