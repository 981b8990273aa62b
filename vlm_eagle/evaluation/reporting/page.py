"""The page: one HTML file that asks nothing of the network and runs no script but its own."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlm_eagle.evaluation.reporting.charts import Chart
from vlm_eagle.evaluation.reporting.figures import benchmark_names
from vlm_eagle.evaluation.reporting.labels import facts, labels, shared_facts
from vlm_eagle.evaluation.reporting.losses import breakdowns, misses
from vlm_eagle.evaluation.reporting.records import Results, Setting, Speed
from vlm_eagle.evaluation.reporting.samples import Sample, page_data
from vlm_eagle.evaluation.reporting.svg import chart_svg, legend_svg
from vlm_eagle.evaluation.reporting.text import json_block, visible
from vlm_eagle.evaluation.reporting.thumbnails import Thumbnails
from vlm_eagle.evaluation.scores.names import DRAFTED, PLAIN

HERE = Path(__file__).parent
IMAGE_BUDGET, TEXT_BUDGET = 5_500_000, 2_500_000  # characters of the page, which stays under 10 MB with everything else


@dataclass(frozen=True)
class Options:
    """What the user may choose about the page."""

    title: str
    folders: Sequence[Path] = ()  # pictures may lie below these


def render(results: Results, names: list[str], charts: list[Chart], samples: list[Sample], found: int, options: Options) -> str:
    """The HTML. `names` are those of the settings, `samples` those to show of `found` in all."""
    thumbnails = Thumbnails(options.folders)
    rows, token_limit = page_data(samples, thumbnails, TEXT_BUDGET)
    pictures = thumbnails.encode(IMAGE_BUDGET)
    settings, speeds = results.settings, results.speeds
    timed = list(zip(labels([s.kind for s in speeds], [s.file for s in speeds]), speeds, strict=True))
    best = max(settings, key=lambda s: (len(_prompts(s)), s.totals.acceptance_length), default=None)
    fastest_name, fastest = max(timed, key=lambda row: row[1].decode.value if row[1].decode else 0, default=("", None))
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    data = {
        "settings": [visible(name) for name in names],
        "start": settings.index(best) if best else 0,
        "pictures": [picture and [picture.url, picture.width, picture.height] for picture in pictures],
        "samples": rows,
    }
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    environment.globals |= {"chart_svg": chart_svg, "legend_svg": legend_svg, "facts": facts}
    kinds = [row.kind for row in (*settings, *speeds)]
    return environment.get_template("page.html.jinja").render(
        title=options.title, style=Markup(style), script=Markup(script), policy=_policy(style, script), data=json_block(data),
        settings=settings, names=names, benchmarks=_table(results), speedups=[_speed_of(s, speeds) for s in settings],
        speeds=speeds, timed=timed, fastest=fastest if fastest and fastest.decode else None, fastest_name=fastest_name,
        drafted=DRAFTED, plain=PLAIN, best=best, best_name=names[settings.index(best)] if best else "",
        charts=charts, breakdowns=breakdowns(settings), misses=misses(best) if best else [],
        num_prompts=[len(_prompts(setting)) for setting in settings],
        shared=shared_facts(kinds), runs=results.runs, notes=_notes(results, thumbnails, pictures, samples, found, token_limit),
        num_samples=len(samples),
    )  # fmt: skip


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: exactly this style and script, pictures from data URLs, and nothing else from anywhere."""
    digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _table(results: Results) -> list[dict[str, Any]]:
    """A row per benchmark: its name and, per setting, its score and its speedup (None where not measured)."""
    settings = results.settings
    by_name = [{benchmark.name: benchmark for benchmark in setting.benchmarks} for setting in settings]
    speeds = [_speed_of(setting, results.speeds) for setting in settings]
    cells = lambda name: [(b.get(name), s and s.benchmarks.get(name)) for b, s in zip(by_name, speeds, strict=True)]
    return [{"name": name, "cells": cells(name)} for name in benchmark_names(settings)]


def _speed_of(setting: Setting, speeds: Sequence[Speed]) -> Speed | None:
    """The timing of the same draft, tree and sampling; at the lowest concurrency if there are several."""
    fitting = [speed for speed in speeds if speed.kind.num_draft_tokens and speed.kind.fits(setting.kind)]
    return min(fitting, key=lambda speed: speed.kind.concurrency or 1, default=None)


def _prompts(setting: Setting) -> set[tuple[str, str]]:
    """(benchmark, id) of every prompt that was answered."""
    return {answer.key[:2] for benchmark in setting.benchmarks for answer in benchmark.answers}


def _notes(
    results: Results, thumbnails: Thumbnails, pictures: Sequence[Any], samples: Sequence[Sample], found: int, token_limit: int
) -> list[str]:
    """What is missing on this page and why, as sentences."""
    notes = list(dict.fromkeys(results.notes))
    settings = results.settings
    for setting in settings:
        for benchmark in setting.benchmarks:
            skipped = benchmark.skipped.items()
            notes += [f"{benchmark.name}: {_number(count, 'prompt')} skipped: {reason}." for reason, count in skipped]
    answers = [answer for setting in settings for benchmark in setting.benchmarks for answer in benchmark.answers]
    if len({frozenset(_prompts(setting)) for setting in settings}) > 1:
        notes.append("Not all settings were measured on the same prompts: their columns cannot be compared.")
    if settings and any(setting.totals.interval is None for setting in settings):
        notes.append("Some results have no intervals; acc_length.py of this version writes them.")
    if answers and not found:
        notes.append("The files have no token texts, so there are no samples; acc_length.py of this version writes them.")
    if not settings:
        notes.append("No acceptance results were given: add the file that acc_length.py wrote.")
    if not results.speeds:
        notes.append("No timings were given, so there are no speedups: add the file that speedup.py wrote.")
    if len(samples) < found:
        notes.append(f"{len(samples)} of {found} samples are shown, evenly over the benchmarks; --samples sets how many.")
    if any(answer.pieces and len(answer.pieces) > token_limit for sample in samples for _, answer in sample.answers):
        notes.append(f"Long answers are cut after {token_limit} tokens, to keep this page small. All tables count all tokens.")
    if lost := sum(picture is None for picture in pictures):
        notes.append(f"{_number(lost, 'picture')} left out to keep this page small.")
    notes += [f"{_number(count, 'picture')} not shown: {reason}." for reason, count in thumbnails.refused.items()]
    return list(dict.fromkeys(notes))


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
