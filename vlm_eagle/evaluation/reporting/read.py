"""Result files to records. Old files are read as far as they go; what they lack becomes a note on the page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.fields import Fields, read_fields
from vlm_eagle.evaluation.reporting.read_kind import read_interval, read_kind
from vlm_eagle.evaluation.reporting.read_speed import read_speed
from vlm_eagle.evaluation.reporting.records import Answer, BenchmarkScore, Results, Score, Setting
from vlm_eagle.evaluation.scores.results import SCHEMA


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
                results.speeds.append(read_speed(setting, file, config))
            else:
                results.settings.append(_setting(setting, file, config, results.notes))
        results.speeds += [read_speed(speed, file, config) for speed in row.children("speed")]
        results.runs.append((file, _run(row.child("run"))))
    results.settings = _without_doubles(results)
    if not results.settings and not results.speeds:
        raise UserError(f"{', '.join(map(str, files))}: no setting was measured. Run acc_length.py or speedup.py first.")
    return results


def _without_doubles(results: Results) -> list[Setting]:
    """The settings, less those that speedup.py counted beside its timings if acc_length.py counted the same on more prompts."""
    timed = {speed.file for speed in results.speeds}
    counted = [setting.kind for setting in results.settings if setting.file not in timed]
    kept = [s for s in results.settings if s.file not in timed or not any(kind.fits(s.kind) for kind in counted)]
    if len(kept) < len(results.settings):
        results.notes.append("Acceptance is that of acc_length.py; what speedup.py counted of the same settings is not shown.")
    return kept


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
    for name in row.child("unanswered").values:
        notes.append(f"{name}: no prompt was answered: {', '.join(row.child('unanswered').child(name).values)}.")
    average = row.number("average_acceptance_length"), read_interval(row, "average_interval")
    return Setting(read_kind(row, config), *average, _score(row.child("totals")), benchmarks, file)


def _score(row: Fields) -> Score:
    return Score(
        row.required("tokens"), row.required("forwards"), row.number("acceptance_length") or 0.0, read_interval(row),
        row.numbers("by_position"), row.numbers("conditional"), _equal(row),
    )  # fmt: skip


def _equal(row: Fields) -> tuple[int, int] | None:
    equal, answers = row.count("equal_to_target_alone"), row.count("answers")
    return None if equal is None or answers is None else (equal, answers)


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
    sums = sum(max(a.num_tokens - 1, 0) for a in answers), sum(a.forwards for a in answers)
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
    length = len(ids) or len(pieces or ()) or 1 + (row.count("num_committed") or 0)
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
