"""The timings in a file: those of `timing/speeds.py`, and of speedup.py before it."""

from collections.abc import Sequence
from pathlib import Path

from vlm_eagle.evaluation.reporting.fields import Fields
from vlm_eagle.evaluation.reporting.read_kind import read_interval, read_kind
from vlm_eagle.evaluation.reporting.records import Forecast, Gain, Method, Speed
from vlm_eagle.evaluation.scores.names import DRAFTED, GENERATE, PLAIN


def read_speed(row: Fields, file: Path, config: Fields) -> Speed:
    """A Speed; `config` is the run's, for what the timing does not say itself."""
    methods = tuple(_method(name, values) for name, values in row.child("methods").items())
    model = row.child("speed_model")
    seen = model.number("seen_speedup") or _ratio(methods, "decode_rate")
    decode = _gain(row, "decode_speedup", "decode_interval") or _made(seen)
    whole = _gain(row, "speedup", "interval") or _made(_ratio(methods, "whole_rate"))
    gains = {b.text("name") or "unnamed": _gain(b, "decode_speedup", "decode_interval") for b in row.children("benchmarks")}
    forecasts = [(f.count("num_draft_tokens"), f.number("speedup")) for f in row.children("forecasts")]
    return Speed(
        read_kind(row, config), decode, whole, model.number("predicted_speedup"), methods,
        benchmarks={name: gain for name, gain in gains.items() if gain},
        forecasts=tuple(Forecast(n, s) for n, s in forecasts if n and s is not None), file=file,
    )  # fmt: skip


def _method(name: str, row: Fields) -> Method:
    return Method(
        name, row.number("decode_tokens_per_second") or 0.0, row.number("end_to_end_tokens_per_second") or 0.0,
        row.number("first_token_seconds"), row.number("acceptance_length"), row.count("equal_to_target_alone"),
        row.count("answers"),
    )  # fmt: skip


def _gain(row: Fields, value: str, interval: str) -> Gain | None:
    found = row.number(value)
    return None if found is None else Gain(found, read_interval(row, interval))


def _made(value: float | None) -> Gain | None:
    return None if value is None else Gain(value)


def _ratio(methods: Sequence[Method], rate: str) -> float | None:
    rates = {method.name: getattr(method, rate) for method in methods}
    alone = max(rates.get(PLAIN, 0.0), rates.get(GENERATE, 0.0))
    return rates[DRAFTED] / alone if alone and DRAFTED in rates else None
