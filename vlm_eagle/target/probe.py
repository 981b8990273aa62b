"""Whether a model can be a target: asked of the model itself when it is loaded, instead of a list of names.

A target needs decoder layers that take a hidden state, our own attention mask and positions, and a cache; token embeddings, a
final norm and a head. Whether it then computes what the whole model computes is tried out on a few tokens.
"""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

_PARENTS = (-1, 0, 0, 1)  # a root with two children, and a child of the first
_PROMPT = 5  # tokens


def check_config(config: PretrainedConfig, name: str) -> None:
    """Refuses what a look at config.json rules out.

    Raises:
        UserError: attention that does not look at all earlier tokens, or recurrent layers.
    """
    text = config.get_text_config()
    window, context = getattr(text, "sliding_window", None), getattr(text, "max_position_embeddings", 0)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if window and window < context:
        kinds.add("sliding_attention")
    if kinds != {"full_attention"}:
        others = ", ".join(sorted(kinds - {"full_attention"}))
        raise UserError(
            f"{name!r} has layers of {others}. Trees are verified on targets whose layers all use full attention only."
        )


def check_parts(model: PreTrainedModel, name: str) -> None:
    """Refuses a model without the parts that decoding uses, in the places of the Llama layout.

    Raises:
        UserError: a part is missing.
    """
    inner = getattr(model, "model", None)
    decoder = getattr(inner, "language_model", inner)
    wanted = {"embed_tokens": nn.Embedding, "layers": nn.ModuleList, "norm": nn.Module}
    missing = [part for part, kind in wanted.items() if not isinstance(getattr(decoder, part, None), kind)]
    if not isinstance(getattr(model, "lm_head", None), nn.Linear):
        missing.append("lm_head")
    if missing:
        kind = type(model).__name__
        raise UserError(f"{name!r} is a {kind}, which has no {', '.join(missing)} in the usual place. It cannot be a target.")


@torch.no_grad()
def check_decoding(target: Target, name: str) -> None:
    """Verifies a small tree, and compares it with the model's own forward over every branch.

    Raises:
        UserError: the model refuses our mask, positions or cache, or its outputs differ.
    """
    try:
        ours, aux = _tree(target)
        expected, hidden = _branches(target)
    except Exception as error:
        raise UserError(f"{name!r} cannot verify a token tree: {type(error).__name__}: {error}") from error
    exact = target.embed_tokens.weight.dtype == torch.float32
    for what, found, wanted in (("logits", ours, expected), ("hidden states", aux, hidden)):
        difference = float((found - wanted).abs().max() / wanted.std().clamp_min(1e-6))
        if not difference <= (1e-2 if exact else 0.5):
            raise UserError(
                f"{name!r} verifies a token tree with other {what} than its own forward gives (off by {difference:.2g} "
                "standard deviations). It cannot be a target."
            )


def _tokens(target: Target) -> Tensor:
    """(prompt + nodes,) int64, any ids of plain tokens."""
    count = _PROMPT + len(_PARENTS)
    return torch.arange(1, count + 1, device=target.device) * 37 % min(target.config.vocab_size, 1000)


def _tree(target: Target) -> tuple[Tensor, Tensor]:
    """Logits (nodes, V) and aux hidden states (nodes, 3 * D) of the tree, float32."""
    tokens, n = _tokens(target), len(_PARENTS)
    prompt = tokens[None, :_PROMPT]
    read = target.prefill(Batch(prompt, torch.ones_like(prompt), torch.zeros_like(prompt, dtype=torch.bool)))
    read.cache.reserve(_PROMPT + n)
    paths = [_path(node) for node in range(n)]
    ancestors = torch.tensor([[node in path for node in range(n)] for path in paths], device=target.device)
    depths = torch.tensor([len(path) - 1 for path in paths], device=target.device)
    logits, aux = target.verify(read.cache, tokens[None, _PROMPT:], depths[None], ancestors[None], read.seq_lens)
    return logits[0].float(), aux[0].float()


def _branches(target: Target) -> tuple[Tensor, Tensor]:
    """The same from the whole model, one forward per node over the prompt and the node's path."""
    tokens = _tokens(target)
    logits, states = [], []
    for node in range(len(_PARENTS)):
        ids = torch.cat([tokens[:_PROMPT], tokens[[_PROMPT + i for i in _path(node)]]])[None]
        output = target.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        logits.append(output.logits[0, -1].float())
        states.append(torch.cat([output.hidden_states[i][0, -1].to(ids.device) for i in target.layer_ids]).float())
    return torch.stack(logits), torch.stack(states)


def _path(node: int) -> list[int]:
    """From the root to a node."""
    return [] if node < 0 else [*_path(_PARENTS[node]), node]
