"""A picture of a run, from its log."""

import json
from pathlib import Path


def draw(log: Path, file: Path) -> bool:
    """Loss and simulated acceptance length over the steps of `log.jsonl`, training and held-out, as a PNG. Without matplotlib
    (the `report` extra) nothing is drawn: then False."""
    try:
        from matplotlib.figure import Figure  # no pyplot: no display is needed, no state is kept
    except ImportError:
        return False
    rows = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name, title in zip(axes, ("loss", "simulated_acceptance_length"), ("loss", "acceptance length"), strict=True):
        for prefix, style in (("", {"linewidth": 0.8, "alpha": 0.8}), ("eval_", {"marker": "o"})):
            points = [(row["step"], row[prefix + name]) for row in rows if row.get(prefix + name) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label="held out" if prefix else "training", **style)
        axis.set_xlabel("step")
        axis.set_title(title)
        axis.legend()
    scratch = file.with_name(f".{file.name}")
    figure.savefig(scratch, format="png", dpi=110)
    scratch.replace(file)
    return True
