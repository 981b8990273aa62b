"""A chart as data, which `svg.py` draws."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Point:
    """A value, its interval, and what it rests on, in words."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One line: a point, or None, per category. `style` is its colour and marker, the same for a setting in all charts."""

    name: str
    points: tuple[Point | None, ...]
    style: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Categories against values.

    Attributes:
        key: short name.
        title: what is shown.
        caption: how to read it.
        categories: along the axis, in order.
        category_label: of that axis.
        value_label: of the other.
        series: what is drawn.
        form: lines have categories along the bottom; dots have them down the side, one row each.
        floor: the value axis begins here or below.
        ceiling: the value axis ends here or above.
        percent: whether values are shares.
    """

    key: str
    title: str
    caption: str
    categories: tuple[str, ...]
    category_label: str
    value_label: str
    series: tuple[Series, ...]
    form: Literal["lines", "dots"] = "lines"
    floor: float = 0.0
    ceiling: float = 0.0
    percent: bool = False

    @property
    def has_whiskers(self) -> bool:
        """Whether any point has an interval."""
        return any(point.low is not None for series in self.series for point in series.points if point)

    def write(self, value: float) -> str:
        """A value as text."""
        return f"{value:.0%}" if self.percent else f"{value:.2f}"

    def ticks(self, most: int = 7) -> list[float]:
        """Round values that cover all points and intervals, at most about `most` steps of them."""
        points = [point for series in self.series for point in series.points if point]
        values = [v for point in points for v in (point.value, point.low, point.high) if v is not None]
        low, high = min([self.floor, *values]), max([self.ceiling, self.floor, *values])
        if high <= low:
            high = low + 1
        rough = (high - low) / most
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * (1 - 1e-9))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]
