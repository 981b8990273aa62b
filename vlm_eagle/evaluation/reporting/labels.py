"""Names of settings: only what tells them apart, so that a legend stays short; what they share is said once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vlm_eagle.evaluation.reporting.records import Kind
from vlm_eagle.evaluation.scores.names import short_names


def shape_name(kind: Kind) -> str | None:
    """Form and size of the tree, with vLLM's way of counting."""
    n = kind.num_draft_tokens
    if n is None:
        return kind.shape
    if n == 1:
        return "target alone"
    vllm = f"vLLM: {n - 1}"
    if kind.topk == 1:
        return f"chain of {n} ({vllm})"
    form = "fixed tree" if kind.fixed else "tree"
    return f"{form} of {n} ({vllm}" + (f"; {kind.num_steps} steps, topk {kind.topk})" if kind.topk and kind.num_steps else ")")


def facts(kind: Kind) -> dict[str, str]:
    """Everything that is known of a setting, in words."""
    known = {
        "Target": kind.target,
        "Draft": kind.draft,
        "Engine": kind.engine,
        "Draft tokens": shape_name(kind),
        "Sampling": kind.sampling,
        "Concurrency": None if kind.concurrency is None else f"{kind.concurrency} at a time",
        "Read at image tokens": kind.image_inputs and f"{kind.image_inputs} embeddings",
        "Thinking": None if kind.thinking is None else "thinking" if kind.thinking else "no thinking",
    }
    return {name: value for name, value in known.items() if value}


def shared_facts(kinds: Sequence[Kind]) -> dict[str, str]:
    """Facts that all settings have in common."""
    rows = [facts(kind) for kind in kinds]
    return {name: value for name, value in rows[0].items() if all(row.get(name) == value for row in rows)} if rows else {}


def labels(kinds: Sequence[Kind], files: Sequence[Path]) -> list[str]:
    """One name per setting: the tree, and whatever else differs. The file where nothing does; a number as the last resort."""
    same, names = shared_facts(kinds), []
    short = {"Draft": short_names(kind.draft for kind in kinds), "Target": short_names(kind.target for kind in kinds)}
    for kind in kinds:
        known = facts(kind)
        shape = known.pop("Draft tokens", None)
        others = [short.get(name, {}).get(value, value) for name, value in known.items() if same.get(name) != value]
        names.append(", ".join(filter(None, [*others, shape])) or "unknown tree")
    names = _distinguish(names, [file.stem for file in files])
    return _distinguish(names, [f"no. {number}" for number in range(1, len(names) + 1)])


def _distinguish(names: list[str], by: list[str]) -> list[str]:
    times = Counter(names)
    return [f"{name}, {extra}" if times[name] > 1 else name for name, extra in zip(names, by, strict=True)]
