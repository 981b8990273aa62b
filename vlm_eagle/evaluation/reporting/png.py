"""The same charts as PNG files, for a model card or slides. Needs matplotlib, which the extra `report` installs."""

import io
from pathlib import Path

from vlm_eagle.evaluation.reporting.charts import Chart, Series
from vlm_eagle.evaluation.reporting.files import write_bytes
from vlm_eagle.evaluation.reporting.text import visible
from vlm_eagle.packages import require

COLOURS = ("#0b62a8", "#b34700", "#00734f", "#8e3b8e", "#7a5c00", "#b3123e", "#0e7490", "#555555")  # as in page.css, light
_MARKERS = "os^D"
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC")


def write_pngs(charts: list[Chart], folder: Path, stem: str) -> list[Path]:
    """One file per chart, `stem-key.png` in `folder`.

    Raises:
        UserError: matplotlib is not installed.
    """
    require("matplotlib", user="--png", extra="report", otherwise="Or write the page alone, with --png false.")
    from matplotlib import font_manager, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = {font.name for font in font_manager.fontManager.ttflist}
    written = []
    with rc_context({"font.family": [name for name in _FONTS if name in known], "text.parse_math": False}):
        for chart in charts:
            rows = len(chart.categories) * (0.16 * len(chart.series) + 0.16) + 1.6 if chart.form == "dots" else 4.4
            figure = Figure(figsize=(7.2, rows + 0.2 * len(chart.series)), layout="constrained")
            figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
            FigureCanvasAgg(figure)
            _draw(chart, figure.subplots())
            figure.legend(loc="outside lower center", frameon=False, ncols=1 if len(chart.series) > 3 else len(chart.series))
            data = io.BytesIO()
            figure.savefig(data, dpi=160, format="png", metadata={"Software": None})
            written.append(folder / f"{stem}-{chart.key}.png")
            write_bytes(written[-1], data.getvalue())
    return written


def _draw(chart: Chart, axes) -> None:
    dots, names = chart.form == "dots", [_cut(name, 28) for name in chart.categories]
    for number, series in enumerate(chart.series):
        apart = 0.7 / len(chart.series) if dots else 0.04 if chart.has_whiskers else 0  # so that whiskers stand side by side
        shift = (number - (len(chart.series) - 1) / 2) * apart
        at = [(i + shift, point) for i, point in enumerate(series.points) if point]
        values, places = [p.value for _, p in at], [i for i, _ in at]
        below = [p.value - p.low if p.low is not None else 0 for _, p in at]
        above = [p.high - p.value if p.high is not None else 0 for _, p in at]
        errors = [[max(v, 0) for v in below], [max(v, 0) for v in above]]
        look = _look(series, dots)
        if dots:
            axes.errorbar(values, places, xerr=errors, **look)
        else:
            axes.errorbar(places, values, yerr=errors, **look)
    ticks, numbers = chart.ticks(), range(len(names))
    written = [chart.write(t) if chart.percent else f"{t:g}" for t in ticks]
    if dots:
        axes.set(xlabel=chart.value_label, xlim=(ticks[0], ticks[-1]))
        axes.set_yticks(numbers, names)
        axes.set_xticks(ticks, written)
        axes.set_ylim(len(names) - 0.5, -0.5)
    else:
        axes.set(xlabel=chart.category_label, ylabel=chart.value_label, ylim=(ticks[0], ticks[-1]))
        axes.set_xticks(numbers, names)
        axes.set_yticks(ticks, written)
    axes.set_title(chart.title, fontsize=11)
    axes.grid(axis="x" if dots else "y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _look(series: Series, dots: bool) -> dict[str, object]:
    line = "none" if dots else "--" if series.dashed else "-"
    return {
        "label": f" {_cut(series.name, 90)}",  # matplotlib hides labels that begin with an underscore
        "color": COLOURS[series.style % len(COLOURS)], "marker": _MARKERS[series.style % 4],
        "linestyle": line, "linewidth": 1.6, "markersize": 5, "capsize": 2, "elinewidth": 1, "clip_on": False,
    }  # fmt: skip


def _cut(text: str, most: int) -> str:
    text = " ".join(visible(text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
