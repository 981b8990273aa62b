"""The tables of vlm-eagle speedup."""

from collections.abc import Sequence

from rich.table import Table

from vlm_eagle.evaluation.result_schema import ShapeForecast, SpeedModel, SpeedResult
from vlm_eagle.evaluation.scores.acceptance_tables import low_high, numbers_table, tree_kind
from vlm_eagle.evaluation.scores.names import short_names
from vlm_eagle.evaluation.scores.option_words import sampling_label


def founding_table(speeds: Sequence[SpeedResult]) -> Table:
    """Speedup and tau by benchmark; temperatures and models in rows, as drafts are compared on their model cards. All entries
    have one tree and one number of prompts side by side."""
    first, models = speeds[0], short_names(speed.draft for speed in speeds)
    shape = f"num_steps {first.num_steps}, topk {first.topk}, num_draft_tokens {first.num_draft_tokens}"
    title = f"Speedup (end to end) and tau by benchmark: {shape}, concurrency {first.concurrency}"
    names = [row.name for row in first.benchmarks] + (["All"] if len(first.benchmarks) > 1 else [])
    columns = [head for name in names for head in (f"{name}\nSpeedup", "\nτ")]
    table = numbers_table(title, "Temperature", ["Model", *columns])
    table.columns[1].justify = "left"
    for speed in speeds:
        rows = [*speed.benchmarks, *([speed] if len(speed.benchmarks) > 1 else [])]
        cells = [cell for row in rows for cell in (_times(row.speedup), f"{row.acceptance_length:.2f}")]
        table.add_row(sampling_label(speed.sampling), models[speed.draft], *cells)
    return table


def speed_table(speed: SpeedResult, model: str) -> Table:
    """Methods by rows: tokens per second after the first token and in all (prompt and images included), each with its gain over
    the speed's baseline, whose gain is 1; tau is the acceptance length, `first` the time to the first token. `model` is the
    draft's name, "" without one."""
    title = [model, speed.shape or "without a draft", sampling_label(speed.sampling)]
    title = f"Speed: {', '.join(filter(None, title))}, concurrency {speed.concurrency}"
    columns = ("decode\ntok/s", "gain", "in all\ntok/s", "gain", "tau", "first\nms", "equal\nanswers")
    table = numbers_table(title, "Method", columns)
    for name, row in speed.methods.items():
        cells = []
        for kind in ("decode", "end_to_end"):
            rate, base = f"{kind}_tokens_per_second", speed.baselines.get(kind)
            alone = getattr(speed.methods[base], rate) if base else None  # 0 where all answers are one token long
            own = getattr(row, rate)
            cells += [f"{own:.1f}", "" if alone is None else _times(own / alone if alone else None)]
        tau = row.acceptance_length
        equal = "" if row.equal_to_target_alone is None else f"{row.equal_to_target_alone}/{row.answers}"
        table.add_row(name, *cells, f"{tau:.2f}" if tau else "", f"{1e3 * row.first_token_seconds:.0f}", equal)
    return table


def interval_table(speed: SpeedResult) -> Table:
    """Benchmark by benchmark what the draft gains, with 95 % intervals."""
    table = numbers_table("By benchmark, with 95 % intervals", "Benchmark", ("Speedup", "Decode speedup", "τ"))
    for name, row in [*((row.name, row) for row in speed.benchmarks), ("All", speed)]:
        gains = ((row.speedup, row.interval), (row.decode_speedup, row.decode_interval))
        tau = f"{row.acceptance_length:.2f}{low_high(row.acceptance_interval)}"
        table.add_row(name, *(f"{_times(gain)}{low_high(interval)}" for gain, interval in gains), tau)
    return table


def cost_table(model: SpeedModel) -> Table:
    """The speed model: a cycle's parts in plain decode steps, and predicted against seen speedup."""
    title = "Speed model: acceptance length / (r_verify + r_extend + r_draft + r_overhead)"
    columns = ("r_verify", "r_extend", "r_draft", "r_over-\nhead", "tau", "pre-\ndicted", "seen")
    table = numbers_table(title, "step\nms", columns)
    parts = [f"{cost:.3f}" for cost in (model.r_verify, model.r_extend, model.r_draft, model.r_overhead)]
    speedups = [_times(model.predicted_speedup), _times(model.seen_speedup)]
    table.add_row(f"{1e3 * model.step_seconds:.2f}", *parts, f"{model.acceptance_length:.2f}", *speedups)
    return table


def forecast_table(forecasts: Sequence[ShapeForecast], rows: int = 6) -> Table:
    """The best shapes by forecast."""
    columns = ("acceptance length", "ms per cycle", "speedup")
    table = numbers_table("Forecast by measured costs and acceptance", "Shape", columns)
    for row in forecasts[:rows]:
        n = row.num_draft_tokens
        shape = "no draft" if n == 1 else f"num_draft_tokens {n}, {tree_kind(row)}"
        table.add_row(shape, f"{row.acceptance_length:.2f}", f"{1e3 * row.seconds:.2f}", f"{row.speedup:.2f}x")
    return table


def _times(speedup: float | None) -> str:
    return "-" if speedup is None else f"{speedup:.2f}x"
