"""The page: one HTML file that asks nothing of the network and runs no script but its own."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlm_eagle.evaluation.reporting.figures import benchmark_names, figures
from vlm_eagle.evaluation.reporting.inputs import ReportInput
from vlm_eagle.evaluation.reporting.labels import facts, labels, shared_facts
from vlm_eagle.evaluation.reporting.misses import misses
from vlm_eagle.evaluation.reporting.samples import Sample, collect, page_data
from vlm_eagle.evaluation.reporting.svg import chart_svg, legend_svg
from vlm_eagle.evaluation.reporting.text import json_block, visible
from vlm_eagle.evaluation.reporting.thumbnails import Thumbnails
from vlm_eagle.evaluation.result_schema import AcceptanceResult, Breakdown, SpeedResult
from vlm_eagle.evaluation.scores.names import DRAFTED, PLAIN

HERE = Path(__file__).parent
IMAGE_BUDGET, TEXT_BUDGET = 5_500_000, 2_500_000  # characters of the page, which stays under 10 MB with everything else


def render(found: ReportInput, *, title: str, folders: Sequence[Path] = (), max_samples: int = 500) -> tuple[str, int]:
    """(the HTML, how many samples it shows). The pictures of the samples may lie below `folders`."""
    settings, speeds = found.settings, found.speeds
    names = labels(settings, found.setting_files)
    samples, available = collect(found, max_samples)
    thumbnails = Thumbnails(folders)
    rows, token_limit = page_data(samples, thumbnails, TEXT_BUDGET)
    pictures = thumbnails.encode(IMAGE_BUDGET)
    best = max(settings, key=lambda s: (len(_prompts(s)), s.totals.acceptance_length), default=None)
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
    notes = [*found.notes, *_notes(found, thumbnails, pictures, samples, available, token_limit)]
    page = environment.get_template("page.html.jinja").render(
        title=title, style=Markup(style), script=Markup(script), policy=_policy(style, script), data=json_block(data),
        settings=settings, names=names, benchmarks=benchmark_names(settings),
        scores=[{benchmark.name: benchmark for benchmark in setting.benchmarks} for setting in settings],
        speed_of=[_speed_of(setting, speeds) for setting in settings],
        timed=list(zip(labels(speeds, found.speed_files), speeds, strict=True)), drafted=DRAFTED, plain=PLAIN,
        best=best, best_name=names[settings.index(best)] if best else "", charts=figures(found, names),
        breakdowns=_breakdowns(settings), misses=misses(best) if best else [],
        num_prompts=[len(_prompts(setting)) for setting in settings],
        shared=shared_facts([*settings, *speeds]), runs=found.runs, notes=list(dict.fromkeys(notes)), num_samples=len(samples),
    )  # fmt: skip
    return page, len(samples)


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: exactly this style and script, pictures from data URLs, and nothing else from anywhere."""
    digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _speed_of(setting: AcceptanceResult, speeds: Sequence[SpeedResult]) -> SpeedResult | None:
    """The timing of the same draft, tree and sampling; at the lowest concurrency if there are several."""
    fitting = [speed for speed in speeds if speed.num_draft_tokens and speed.key == setting.key]
    return min(fitting, key=lambda speed: speed.concurrency, default=None)


def _prompts(setting: AcceptanceResult) -> set[tuple[str, str]]:
    """(benchmark, id) of every prompt that was answered."""
    return {(benchmark.name, turn.id) for benchmark in setting.benchmarks for turn in benchmark.prompts}


def _breakdowns(settings: Sequence[AcceptanceResult]) -> dict[str, dict[str, list[Breakdown | None]]]:
    """Title -> kind of prompt -> its sums under each setting, where the prompts differ in it."""
    found = {}
    for title in ("modality", "language", "turn"):
        rows = [getattr(setting.breakdowns, title) for setting in settings]
        kinds = dict.fromkeys(kind for row in rows for kind in row)
        if len(kinds) > 1:
            found[title] = {kind: [row.get(kind) for row in rows] for kind in kinds}
    return found


def _notes(
    found: ReportInput, thumbnails: Thumbnails, pictures: Sequence[Any], samples: Sequence[Sample], available: int,
    token_limit: int,
) -> list[str]:  # fmt: skip
    """What is missing on this page and why, as sentences."""
    settings = found.settings
    notes = [
        f"{benchmark.name}: {_number(count, 'prompt')} skipped: {reason}."
        for setting in settings
        for benchmark in setting.benchmarks
        for reason, count in benchmark.skipped.items()
    ]
    if len({frozenset(_prompts(setting)) for setting in settings}) > 1:
        notes.append("Not all settings were measured on the same prompts: their columns cannot be compared.")
    if any(setting.totals.interval is None for setting in settings):
        notes.append("Some results have no intervals, because they are of a single prompt.")
    if settings and not available:
        notes.append("There are no samples: a server does not say which tokens were drafted.")
    if not settings:
        notes.append("No acceptance results were given: add the file that vlm-eagle score wrote.")
    if not found.speeds:
        notes.append("No timings were given, so there are no speedups: add the file that vlm-eagle speedup wrote.")
    if len(samples) < available:
        notes.append(f"{len(samples)} of {available} samples are shown, evenly over the benchmarks; --samples sets how many.")
    if any(len(turn.pieces or ()) > token_limit for sample in samples for _, turn in sample.answers):
        notes.append(f"Long answers are cut after {token_limit} tokens, to keep this page small. All tables count all tokens.")
    if lost := sum(picture is None for picture in pictures):
        notes.append(f"{_number(lost, 'picture')} left out to keep this page small.")
    return notes + [f"{_number(count, 'picture')} not shown: {reason}." for reason, count in thumbnails.refused.items()]


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
