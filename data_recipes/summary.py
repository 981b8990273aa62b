"""What a build leaves in recipe.json and on the screen: counts, languages, lengths."""

from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.table import Table

from data_recipes.choose import Choice
from data_recipes.gather import Tally
from data_recipes.languages import CHARACTERS as LANGUAGE_CHARACTERS
from data_recipes.mix import Mix
from vlm_eagle.provenance import describe_run

_LIBRARIES = ("datasets", "datasketch", "py3langid", "ijson", "pillow", "numpy")
_LENGTHS = {"question characters": "question", "answer characters": "answer", "turns": "turns", "pictures": "pictures"}


def summarize(
    mix: Mix, tallies: list[Tally], facts: np.ndarray, choice: Choice, parts: np.ndarray, pictures: int, settings: dict
) -> dict[str, Any]:
    """The content of recipe.json. In every part and in all, read == kept + the sum of dropped."""
    total = Tally(
        sum(tally.read for tally in tallies),
        sum(tally.kept for tally in tallies),
        sum((tally.dropped for tally in tallies), Counter()),
        sum((tally.changed for tally in tallies), Counter()),
    )
    held_out = int(choice.held_out.sum())
    of_parts = [
        {
            "recipe": part.recipe.name,
            "origin": part.recipe.origin,
            "licence": part.recipe.licence,
            "source": part.source,
            "files": list(part.files),
            "wanted": part.total,
            "missing": 0 if part.total is None else part.total - tally.kept,
            **_counts(tally),
            **_distributions(facts[choice.kept & (parts == number)]),
        }
        for number, (part, tally) in enumerate(zip(mix.parts, tallies, strict=True))
    ]
    run = describe_run()
    run["versions"] |= {name: version(name) for name in _LIBRARIES}
    return {
        "name": mix.name,
        "about": mix.about,
        "counts": {**_counts(total), "train": total.kept - held_out, "held_out": held_out, "pictures": pictures},
        **_distributions(facts[choice.kept]),
        "parts": of_parts,
        "settings": settings,
        "notes": {
            "lengths": "characters; token counts depend on the target",
            "languages": f"of the answers, by their first {LANGUAGE_CHARACTERS} characters outside of code blocks",
        },
        **run,
    }


def table(summary: dict[str, Any]) -> Table:
    """The counts of every part, for the screen."""
    counts = summary["counts"]
    grid = Table(title=f"{summary['name']}: {counts['train']:,} to train on, {counts['held_out']:,} held out")
    for heading in ("Part", "Read", "Kept", "Languages", "Answer, median characters", "Dropped"):
        grid.add_column(heading, justify="left" if heading in ("Part", "Languages", "Dropped") else "right")
    for part in summary["parts"]:
        most_spoken = list(part["languages"].items())[:3]
        languages = ", ".join(f"{code} {count / max(part['kept'], 1):.0%}" for code, count in most_spoken)
        dropped = "\n".join(f"{count:,} {reason}" for reason, count in part["dropped"].items())
        median = part["lengths"]["answer characters"].get("median", 0)
        grid.add_row(part["recipe"], f"{part['read']:,}", f"{part['kept']:,}", languages, f"{median:,.0f}", dropped)
    return grid


def _counts(tally: Tally) -> dict[str, Any]:
    assert tally.read == tally.kept + sum(tally.dropped.values()), tally
    changes = {"dropped": dict(tally.dropped.most_common()), "changed": dict(tally.changed.most_common())}
    return {"read": tally.read, "kept": tally.kept, **changes}


def _distributions(facts: np.ndarray) -> dict[str, Any]:
    languages = Counter(facts["language"].tolist()).most_common()
    return {"languages": dict(languages), "lengths": {name: _quantiles(facts[column]) for name, column in _LENGTHS.items()}}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    p10, p50, p90 = np.percentile(values, [10, 50, 90]).round(1).tolist()
    ends = {"max": int(values.max()), "sum": int(values.sum(dtype=np.int64))}
    return {"mean": round(float(values.mean()), 1), "p10": p10, "median": p50, "p90": p90, **ends}
