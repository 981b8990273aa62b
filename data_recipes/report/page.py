"""A data report as one HTML file that needs nothing else: no script, no network, pictures inside."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from data_recipes.report.samples import ShownSample
from data_recipes.report.tables import printable


def render(summary: dict[str, Any], samples: Sequence[ShownSample], about: dict[str, Any]) -> str:
    """The page. Everything that data says is escaped, and its control characters are shown instead of obeyed.

    Args:
        summary: from `summarise`.
        samples: to be shown.
        about: what the report is on: title -> value.
    """
    environment = Environment(
        loader=PackageLoader("data_recipes.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(summary=summary, samples=samples, about=about)


def _shown(value: object) -> object:
    """What is printed for an expression. Markup is the template's own and done."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
