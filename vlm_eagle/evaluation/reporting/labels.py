"""Names of settings: only what tells them apart, so that a legend stays short; what they share is said once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vlm_eagle.evaluation.result_schema import DecodingSetup
from vlm_eagle.evaluation.scores.names import short_names


def shape_name(setup: DecodingSetup) -> str | None:
    """Form and size of the tree, with vLLM's way of counting."""
    n = setup.num_draft_tokens
    if n is None or n == 1:
        return n and "target alone"
    if setup.topk == 1:
        return f"chain of {n} (vLLM: {n - 1})"
    form = "fixed tree" if setup.paths else "tree"
    return f"{form} of {n} (vLLM: {n - 1}; {setup.num_steps} steps, topk {setup.topk})"


def sampling_name(sampling: dict[str, float]) -> str:
    """greedy, or the temperature and all filters that are on."""
    temperature = sampling.get("temperature", 0.0)
    filters = (("top-p", "top_p", 1), ("top-k", "top_k", 0), ("min-p", "min_p", 0))
    on = [f"{name} {sampling[key]:g}" for name, key, off in filters if sampling.get(key, off) != off]
    return ", ".join([f"T={temperature:g}", *on]) if temperature else "greedy"


def facts(setup: DecodingSetup) -> dict[str, str]:
    """Everything that is known of a setting, in words."""
    engine = setup.engine or {}
    known = {
        "Target": setup.target,
        "Draft": setup.draft,
        "Engine": " ".join(filter(None, (engine.get("kind"), engine.get("version")))),
        "Draft tokens": shape_name(setup),
        "Sampling": sampling_name(setup.sampling),
        "Concurrency": f"{setup.concurrency} at a time",
        "Read at image tokens": setup.image_inputs and f"{setup.image_inputs} embeddings",
        "Thinking": {True: "thinking", False: "no thinking", None: None}[setup.thinking],
    }
    return {name: value for name, value in known.items() if value}


def shared_facts(setups: Sequence[DecodingSetup]) -> dict[str, str]:
    """Facts that all settings have in common."""
    rows = [facts(setup) for setup in setups]
    return {name: value for name, value in rows[0].items() if all(row.get(name) == value for row in rows)} if rows else {}


def labels(setups: Sequence[DecodingSetup], files: Sequence[Path]) -> list[str]:
    """One name per setting: the tree, and whatever else differs. The file where nothing does; a number as the last resort."""
    same, names = shared_facts(setups), []
    short = {"Draft": short_names(s.draft for s in setups), "Target": short_names(s.target for s in setups)}
    for setup in setups:
        known = facts(setup)
        shape = known.pop("Draft tokens", None)
        others = [short.get(name, {}).get(value, value) for name, value in known.items() if same.get(name) != value]
        names.append(", ".join(filter(None, [*others, shape])) or "unknown tree")
    names = _distinguish(names, [file.stem for file in files])
    return _distinguish(names, [f"no. {number}" for number in range(1, len(names) + 1)])


def _distinguish(names: list[str], by: list[str]) -> list[str]:
    times = Counter(names)
    return [f"{name}, {extra}" if times[name] > 1 else name for name, extra in zip(names, by, strict=True)]
