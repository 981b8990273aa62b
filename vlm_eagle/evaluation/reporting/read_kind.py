"""The facts that tell one setting from another, out of a setting's or a timing's JSON object."""

import re

from vlm_eagle.evaluation.reporting.fields import Fields
from vlm_eagle.evaluation.reporting.records import Interval, Kind

_SHAPE = r"(?P<form>chain|tree \(steps (?P<steps>\d+), topk (?P<topk>\d+)\)) of (?P<n>\d+) draft tokens"  # str(TreeShape)


def read_kind(row: Fields, config: Fields) -> Kind:
    """What a setting does not say itself, its run's configuration says, where that has one value."""
    engine = row.child("engine")
    draft = None if "kind" in engine else _one(config, "draft")  # a server's draft was chosen when it was started
    nodes, topk, steps = (row.count(key) for key in ("num_draft_tokens", "topk", "num_steps"))
    if nodes is None and (words := re.match(_SHAPE, row.text("shape") or "")):
        nodes = int(words["n"])
        topk, steps = (1, nodes - 1) if words["form"] == "chain" else (int(words["topk"]), int(words["steps"]))
    return Kind(
        draft=row.text("draft") or draft,
        target=row.text("target") or _one(config, "target"),
        num_draft_tokens=nodes,
        topk=topk,
        num_steps=steps,
        fixed="paths" in row,
        sampling=_sampling(row.child("sampling")) or _sampling(config, top_k="sample_top_k"),
        concurrency=row.count("concurrency"),
        image_inputs=row.text("image_inputs"),
        thinking=row.flag("thinking"),
        engine=" ".join(filter(None, (engine.text("kind"), engine.text("version")))) or None,
        shape=row.text("shape"),
    )


def _one(config: Fields, key: str) -> str | None:
    return config.text(key) if isinstance(config.values.get(key), str) else None


def _sampling(row: Fields, top_k: str = "top_k") -> str | None:
    temperature = row.number("temperature") if not isinstance(row.values.get("temperature"), list) else None
    if not temperature:
        return None if temperature is None else "greedy"
    filters = (("top-p", row.number("top_p"), 1), ("top-k", row.number(top_k), 0), ("min-p", row.number("min_p"), 0))
    return ", ".join([f"T={temperature:g}", *(f"{n} {v:g}" for n, v, off in filters if v is not None and v != off)])


def read_interval(row: Fields, key: str = "interval") -> Interval | None:
    """[low, high], if both are there."""
    found = row.numbers(key)
    return (found[0], found[1]) if len(found) == 2 else None
