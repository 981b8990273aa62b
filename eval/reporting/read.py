"""Result files to records. Old files are read as far as they go; what they lack becomes a note on the page."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reporting.fields import Fields, read_fields
from reporting.records import Answer, BenchmarkScore, Forecast, Interval, Kind, Method, Results, Score, Setting, Speed
from vlm_eagle.errors import UserError

SCHEMA = "vlm_eagle.eval/1"
DRAFTED, PLAIN = "with the draft", "target alone"  # methods of speedup.py
_SHAPE = r"(?P<form>chain|tree \(steps (?P<steps>\d+), topk (?P<topk>\d+)\)) of (?P<n>\d+) draft tokens"  # str(TreeShape)


def read_results(files: Sequence[Path]) -> Results:
    """All settings of all files, in order.

    Raises:
        UserError: a file that is no result file, or one of another schema.
    """
    results = Results()
    for file in files:
        row = read_fields(file)
        _check(row, file)
        config = row.child("run").child("config")
        for setting in row.children("settings"):
            if "methods" in setting:  # speedup.py before it had a schema
                results.speeds.append(_speed(setting, file, config))
            else:
                results.settings.append(_setting(setting, file, config, results.notes))
        results.speeds += [_speed(speed, file, config) for speed in row.children("speed")]
        results.runs.append((file, _run(row.child("run"))))
    if not results.settings and not results.speeds:
        raise UserError(f"{', '.join(map(str, files))}: no setting was measured. Run acc_length.py or speedup.py first.")
    return results


def _check(row: Fields, file: Path) -> None:
    schema = row.values.get("schema")
    if schema not in (None, SCHEMA):
        raise UserError(
            f"{file} has schema {str(schema)[:60]!r}; this version reads {SCHEMA!r}. Write it anew with this version."
        )
    places = [place for key in ("settings", "speed") if isinstance(row.values.get(key), list) for place in row.values[key]]
    known = any(
        isinstance(place, dict) and {"benchmarks", "methods", "speed_model", "speedup"} & set(place) for place in places
    )
    if not known and not (schema and not places):
        raise UserError(f"{file} is no result of acc_length.py or speedup.py: it has no settings with benchmarks or methods.")


def _setting(row: Fields, file: Path, config: Fields, notes: list[str]) -> Setting:
    benchmarks = tuple(_benchmark(b, notes) for b in row.children("benchmarks"))
    return Setting(_kind(row, config), row.number("average_acceptance_length"), _score(row.child("totals")), benchmarks, file)


def _kind(row: Fields, config: Fields) -> Kind:
    """What a setting does not say itself, its run's configuration says, where that has one value."""
    engine = row.child("engine")
    draft = None if "kind" in engine else _one(config, "draft")  # a server's draft was chosen when it was started
    nodes, topk, steps = (row.count(key) for key in ("num_draft_tokens", "topk", "num_steps"))
    if nodes is None and (words := re.match(_SHAPE, row.text("shape") or "")):
        nodes = int(words["n"])
        topk, steps = (1, nodes - 1) if words["form"] == "chain" else (int(words["topk"]), int(words["steps"]))
    return Kind(
        draft=row.text("draft") or draft,
        target=row.text("target") or _one(config, "target"),
        num_draft_tokens=nodes,
        topk=topk,
        num_steps=steps,
        sampling=_sampling(row.child("sampling")) or _sampling(config, top_k="sample_top_k"),
        concurrency=row.count("concurrency"),
        image_inputs=row.text("image_inputs"),
        engine=" ".join(filter(None, (engine.text("kind"), engine.text("version")))) or None,
        shape=row.text("shape"),
    )


def _one(config: Fields, key: str) -> str | None:
    return config.text(key) if isinstance(config.values.get(key), str) else None


def _sampling(row: Fields, top_k: str = "top_k") -> str | None:
    temperature = row.number("temperature") if not isinstance(row.values.get("temperature"), list) else None
    if not temperature:
        return None if temperature is None else "greedy"
    filters = (("top-p", row.number("top_p"), 1), ("top-k", row.number(top_k), 0), ("min-p", row.number("min_p"), 0))
    return ", ".join([f"T={temperature:g}", *(f"{n} {v:g}" for n, v, off in filters if v is not None and v != off)])


def _score(row: Fields) -> Score:
    return Score(
        row.required("tokens"), row.required("forwards"), row.number("acceptance_length") or 0.0, _interval(row),
        row.numbers("by_position"), row.numbers("conditional"),
    )  # fmt: skip


def _interval(row: Fields) -> Interval | None:
    found = row.numbers("interval")
    return (found[0], found[1]) if len(found) == 2 else None


def _benchmark(row: Fields, notes: list[str]) -> BenchmarkScore:
    name, score = row.text("name") or "unnamed", _score(row)
    seen: Counter[tuple[str, str, int]] = Counter()
    answers: list[Answer] = []
    broken: list[str] = []
    for prompt in row.children("prompts"):
        key = (name, prompt.text("id") or "", prompt.count("turn") or 0)
        answers.append(_answer(prompt, (*key, seen[key]), broken))
        seen[key] += 1
    if broken:
        notes.append(
            f"{row.place}: {len(broken)} of {len(answers)} samples are not shown, because pieces, committed, accepted and "
            f"output_token_ids disagree (the first: {broken[0]})."
        )
    sums = sum(a.num_tokens - 1 for a in answers if a.num_tokens), sum(a.forwards for a in answers)
    if answers and sums != (score.tokens, score.forwards):
        notes.append(
            f"{row.place}: the file says {score.tokens} tokens in {score.forwards} forwards, its prompts add up to "
            f"{sums[0]} in {sums[1]}."
        )
    skipped = {reason: row.child("skipped").count(reason) or 0 for reason in row.child("skipped").values}
    return BenchmarkScore(name, score, skipped, tuple(answers))


def _answer(row: Fields, key: tuple[str, str, int, int], broken: list[str]) -> Answer:
    ids, pieces, committed = row.counts("output_token_ids") or (), row.texts("pieces"), row.counts("committed")
    accepted = row.counts("accepted")
    if accepted is None and committed is not None:
        accepted = tuple(max(c - 1, 0) for c in committed)
    length = len(ids) or len(pieces or ())
    if committed is not None and not _consistent(length, pieces, committed, accepted):
        broken.append(row.text("id") or row.place)
        pieces = committed = accepted = None
    return Answer(
        key, row.text("question"), row.texts("images") or (), row.text("language"), row.text("modality"), length,
        row.count("num_forwards") or len(committed or ()), pieces, committed, accepted,
    )  # fmt: skip


def _consistent(
    length: int, pieces: tuple[str, ...] | None, committed: tuple[int, ...], accepted: tuple[int, ...] | None
) -> bool:
    return (
        (pieces is None or len(pieces) == length)
        and sum(committed) + 1 == length
        and accepted is not None
        and len(accepted) == len(committed)
        and all(0 <= c - a <= 1 and c > 0 for a, c in zip(accepted, committed, strict=True))
    )


def _speed(row: Fields, file: Path, config: Fields) -> Speed:
    methods = tuple(_method(name, values) for name, values in row.child("methods").items())
    model = row.child("speed_model")
    seen = row.number("speedup") or model.number("seen_speedup") or _ratio(methods)
    benchmarks = {}
    for benchmark in row.children("benchmarks"):
        if (speedup := benchmark.number("speedup")) is not None:
            benchmarks[benchmark.text("name") or "unnamed"] = speedup, _interval(benchmark)
    forecasts = [(f.count("num_draft_tokens"), f.number("speedup")) for f in row.children("forecasts")]
    return Speed(
        _kind(row, config), seen, _interval(row), model.number("predicted_speedup"), methods, benchmarks,
        tuple(Forecast(n, s) for n, s in forecasts if n and s is not None), file,
    )  # fmt: skip


def _method(name: str, row: Fields) -> Method:
    return Method(
        name, row.number("decode_tokens_per_second") or 0.0, row.number("end_to_end_tokens_per_second") or 0.0,
        row.number("first_token_seconds"), row.number("acceptance_length"), row.count("equal_to_target_alone"),
        row.count("answers"),
    )  # fmt: skip


def _ratio(methods: Sequence[Method]) -> float | None:
    rates = {method.name: method.decode_rate for method in methods}
    return rates[DRAFTED] / rates[PLAIN] if rates.get(PLAIN) and DRAFTED in rates else None


def _run(row: Fields) -> list[tuple[str, str]]:
    """Facts about a run, in words; only what is there."""
    versions, machine = row.child("versions"), row.child("machine")
    facts = (
        ("Command", " ".join(row.texts("command") or ())),
        ("Started", row.text("started")),
        ("Commit", row.text("git_commit")),
        ("Versions", ", ".join(f"{name} {versions.text(name)}" for name in versions.values if name in versions)),
        ("Machine", ", ".join(f"{name.replace('_', ' ')} {machine.text(name)}" for name in machine.values if name in machine)),
    )
    return [(name, value) for name, value in facts if value]
