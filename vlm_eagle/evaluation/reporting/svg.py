"""Charts as inline SVG: text stays text; colours come from the page's style (`.s0` .. `.s7`), light or dark."""

from xml.etree import ElementTree as ET

from markupsafe import Markup

from vlm_eagle.evaluation.reporting.charts import Chart, Point
from vlm_eagle.evaluation.reporting.text import visible

WIDTH, LINE_HEIGHT = 360.0, 250.0  # units of the drawing; a narrow page is as many pixels wide, so 12 units are 12 pixels
STYLES, MARKERS = 8, 4
_RIGHT, _TOP = 14.0, 12.0


def chart_svg(chart: Chart) -> Markup:
    """The drawing. Its numbers stand beside it as a table, so to a screen reader it is one picture with a name."""
    draw = _dots if chart.form == "dots" else _lines
    return Markup(ET.tostring(draw(chart), encoding="unicode", short_empty_elements=True))


def legend_svg(style: int, dashed: bool) -> Markup:
    """A short piece of a series' line with its marker."""
    root = ET.Element("svg", {"viewBox": "0 0 30 14", "width": "30", "height": "14", "aria-hidden": "true", "class": "key"})
    ET.SubElement(root, "path", {"d": "M1 7H29", "class": f"line s{style % STYLES}" + (" dashed" if dashed else "")})
    _marker(root, 15, 7, style)
    return Markup(ET.tostring(root, encoding="unicode"))


def _lines(chart: Chart) -> ET.Element:
    left, bottom = 46.0, 44.0
    root = _root(chart, LINE_HEIGHT)
    ticks = chart.ticks()
    x = lambda i: left + (WIDTH - left - _RIGHT) * (i + 0.5) / len(chart.categories)
    y = lambda v: LINE_HEIGHT - bottom - (LINE_HEIGHT - bottom - _TOP) * (v - ticks[0]) / (ticks[-1] - ticks[0])
    for tick in ticks:
        ET.SubElement(root, "path", {"d": f"M{left} {y(tick):.1f}H{WIDTH - _RIGHT}", "class": "grid"})
        _text(root, left - 6, y(tick) + 4, _tick(chart, tick), "end")
    longest = max(map(len, chart.categories))
    every = -(-len(chart.categories) * (longest * 6.6 + 8) // (WIDTH - left - _RIGHT))  # so many that labels do not touch
    for i, category in enumerate(chart.categories):
        if i % max(int(every), 1) == 0:
            _text(root, x(i), LINE_HEIGHT - bottom + 17, category, "middle")
    _text(root, (left + WIDTH - _RIGHT) / 2, LINE_HEIGHT - 6, chart.category_label, "middle", "axis")
    for number, series in enumerate(chart.series):
        shift = (number - (len(chart.series) - 1) / 2) * 3 if chart.has_whiskers else 0  # so that those stand side by side
        at = [(x(i) + shift, y(p.value), p, i) for i, p in enumerate(series.points) if p]
        if len(at) > 1:
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b, _, _ in at)
            ET.SubElement(
                root, "path", {"d": path, "class": f"line s{series.style % STYLES}" + (" dashed" if series.dashed else "")}
            )
        for a, b, point, i in at:
            group = _named(root, f"{series.name}; {chart.categories[i]}: {_say(chart, point)}")
            if point.low is not None and point.high is not None:
                ET.SubElement(
                    group,
                    "path",
                    {"d": f"M{a:.1f} {y(point.low):.1f}V{y(point.high):.1f}", "class": f"whisker s{series.style % STYLES}"},
                )
            _marker(group, a, b, series.style)
    return root


def _dots(chart: Chart) -> ET.Element:
    left, bottom, row = 112.0, 40.0, 12.0 * len(chart.series) + 12.0
    height = _TOP + row * len(chart.categories) + bottom
    root = _root(chart, height)
    ticks = chart.ticks()
    x = lambda v: left + (WIDTH - left - _RIGHT) * (v - ticks[0]) / (ticks[-1] - ticks[0])
    for i in range(0, len(chart.categories), 2):
        band = {"x": "0", "y": f"{_TOP + i * row:.1f}", "width": f"{WIDTH}", "height": f"{row:.1f}", "class": "band"}
        ET.SubElement(root, "rect", band)
    for tick in ticks:
        ET.SubElement(root, "path", {"d": f"M{x(tick):.1f} {_TOP}V{height - bottom:.1f}", "class": "grid"})
        _text(root, x(tick), height - bottom + 16, _tick(chart, tick), "middle")
    _text(root, (left + WIDTH - _RIGHT) / 2, height - 6, chart.value_label, "middle", "axis")
    for i, category in enumerate(chart.categories):
        top = _TOP + i * row
        name = visible(category)
        _text(_named(root, name), left - 8, top + row / 2 + 4, name if len(name) <= 17 else f"{name[:16]}…", "end")
        for number, series in enumerate(chart.series):
            point = series.points[i]
            if point is None:
                continue
            y, style = top + 12 + 12 * number, series.style % STYLES
            group = _named(root, f"{series.name}; {category}: {_say(chart, point)}")
            if point.low is not None and point.high is not None:
                ET.SubElement(
                    group, "path", {"d": f"M{x(point.low):.1f} {y:.1f}H{x(point.high):.1f}", "class": f"whisker s{style}"}
                )
            _marker(group, x(point.value), y, series.style)
    return root


def _root(chart: Chart, height: float) -> ET.Element:
    return ET.Element(
        "svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img", "aria-label": visible(chart.title), "class": "chart"}
    )


def _named(parent: ET.Element, name: str) -> ET.Element:
    """A group with a tooltip."""
    group = ET.SubElement(parent, "g")
    ET.SubElement(group, "title").text = visible(name)
    return group


def _say(chart: Chart, point: Point) -> str:
    said = chart.write(point.value)
    if point.low is not None and point.high is not None:
        said += f" ({chart.write(point.low)} to {chart.write(point.high)})"
    return f"{said}, {point.note}" if point.note else said


def _tick(chart: Chart, value: float) -> str:
    return f"{value:.0%}" if chart.percent else f"{value:g}"


def _text(parent: ET.Element, x: float, y: float, text: str, anchor: str, kind: str = "tick") -> None:
    ET.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": kind}).text = visible(text)


def _marker(parent: ET.Element, x: float, y: float, style: int) -> None:
    """Circle, square, triangle, diamond: a series is known without its colour."""
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 3.6:.1f} {y - 3.6:.1f}h7.2v7.2h-7.2z",
        f"M{x:.1f} {y - 4.8:.1f}l4.6 8h-9.2z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    ET.SubElement(parent, "path", {"d": shapes[style % MARKERS], "class": f"marker s{style % STYLES}"})
