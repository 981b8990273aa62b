"""What a recipe leaves in recipe.json and on the screen: counts, languages, lengths."""

from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.table import Table

from data_recipes.choose import Choice
from data_recipes.gather import Tally
from data_recipes.languages import CHARACTERS as LANGUAGE_CHARACTERS
from data_recipes.measure import Facts
from data_recipes.plan import Part, Plan
from vlm_eagle.provenance import describe_run

_LIBRARIES = ("datasets", "datasketch", "py3langid", "ijson", "pillow", "numpy")


def summarize(
    plan: Plan, tallies: list[Tally], facts: Facts, choice: Choice, parts: np.ndarray, pictures: int, settings: dict
) -> dict:
    """The content of recipe.json. In every part and in all, read == kept + the sum of dropped."""
    of_part = [
        _part(part, tally, facts, choice.kept & (parts == i))
        for i, (part, tally) in enumerate(zip(plan.parts, tallies, strict=True))
    ]
    total = Tally(
        sum(t.read for t in tallies),
        sum(t.kept for t in tallies),
        _sum(t.dropped for t in tallies),
        _sum(t.changed for t in tallies),
    )
    run = describe_run()
    run["versions"] |= {name: version(name) for name in _LIBRARIES}
    return {
        "name": plan.name,
        "about": plan.about,
        "counts": {
            **_counts(total),
            "train": total.kept - int(choice.held_out.sum()),
            "held_out": int(choice.held_out.sum()),
            "pictures": pictures,
        },
        "languages": _languages(facts, choice.kept),
        "lengths": _lengths(facts, choice.kept),
        "parts": of_part,
        "settings": settings,
        "notes": {
            "lengths": "characters; token counts depend on the target",
            "languages": f"of the answers, by their first {LANGUAGE_CHARACTERS} characters outside of code blocks",
        },
        **run,
    }


def _part(part: Part, tally: Tally, facts: Facts, kept: np.ndarray) -> dict[str, Any]:
    recipe = part.recipe
    return {
        "recipe": recipe.name,
        "origin": recipe.origin,
        "licence": recipe.licence,
        "source": part.source,
        "files": list(part.files),
        "wanted": part.total,
        "missing": 0 if part.total is None else part.total - tally.kept,
        **_counts(tally),
        "languages": _languages(facts, kept),
        "lengths": _lengths(facts, kept),
    }


def _counts(tally: Tally) -> dict[str, Any]:
    assert tally.read == tally.kept + sum(tally.dropped.values()), tally
    return {
        "read": tally.read,
        "kept": tally.kept,
        "dropped": dict(tally.dropped.most_common()),
        "changed": dict(tally.changed.most_common()),
    }


def _languages(facts: Facts, kept: np.ndarray) -> dict[str, int]:
    return {str(code): count for code, count in Counter(facts.language[kept].tolist()).most_common()}


def _lengths(facts: Facts, kept: np.ndarray) -> dict[str, dict[str, float]]:
    columns = {
        "question characters": facts.question,
        "answer characters": facts.answer,
        "turns": facts.turns,
        "pictures": facts.pictures,
    }
    return {name: _spread(column[kept]) for name, column in columns.items()}


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    p10, p50, p90 = np.percentile(values, [10, 50, 90]).round(1).tolist()
    return {
        "mean": round(float(values.mean()), 1),
        "p10": p10,
        "median": p50,
        "p90": p90,
        "max": int(values.max()),
        "sum": int(values.sum(dtype=np.int64)),
    }


def _sum(counters) -> Counter:
    return sum(counters, Counter())


def table(summary: dict) -> Table:
    """The counts of every part, for the screen."""
    grid = Table(
        title=f"{summary['name']}: {summary['counts']['train']:,} to train on, {summary['counts']['held_out']:,} held out"
    )
    for heading in ("Part", "Read", "Kept", "Languages", "Answer, median characters", "Dropped"):
        grid.add_column(heading, justify="left" if heading in ("Part", "Languages", "Dropped") else "right")
    for part in summary["parts"]:
        languages = ", ".join(
            f"{code} {count / max(part['kept'], 1):.0%}" for code, count in list(part["languages"].items())[:3]
        )
        dropped = "\n".join(f"{count:,} {reason}" for reason, count in part["dropped"].items())
        median = part["lengths"]["answer characters"].get("median", 0)
        grid.add_row(part["recipe"], f"{part['read']:,}", f"{part['kept']:,}", languages, f"{median:,.0f}", dropped)
    return grid
