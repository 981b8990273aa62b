"""Benchmarks by name, as the scripts' option `benchmarks` takes them."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from data_recipes.stream import data_files, file_rows, is_hub_id, name_of
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.demo import benchmarks as demo
from vlm_eagle.demo import mix
from vlm_eagle.errors import UserError

from .draw import PromptDraw
from .entries import ENTRIES, GROUPS
from .entry import Entry, Row

IMAGES = Path("outputs/benchmarks/images")  # where pictures embedded in rows become files


def load_benchmark(
    name: str, limit: int | None = None, seed: int = 0, source: str | Path | None = None, images: Path = IMAGES
) -> Benchmark:
    """A benchmark of the table (vlm-eagle benchmarks), a demo benchmark, or a JSONL file of conversations.

    Args:
        name: of the benchmark, or `name=source`, or the path of a JSONL file.
        limit: prompts at most: of a benchmark of the table drawn by `seed`, of others the first ones. None for its own number.
        seed: of what is drawn.
        source: local file or folder in the benchmark's schema, or a Hub dataset, instead of the benchmark's own.
        images: folder for pictures that rows embed.

    Raises:
        UserError: there is no such benchmark, or its source holds no usable prompt.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, found {limit}.")
    if Path(name).is_file():
        return demo.load_benchmark(name, limit)
    name, _, given = name.partition("=")
    source = source or (Path(given).expanduser() if given.startswith("~") else given) or None  # the shell leaves x=~/y alone
    entry = ENTRIES.get(_plain_name(name))
    if entry is not None:
        return _load(entry, source, limit, seed, images)
    if name in mix.TASKS:
        if source is not None:
            raise UserError(f"{name} is a demo benchmark, which is generated here: it has no other source than itself.")
        return demo.load_benchmark(name, limit)
    known = [*mix.TASKS, *ENTRIES, *GROUPS]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise UserError(
        f"{name!r} is neither a benchmark nor a JSONL file of conversations. {hint}"
        f"Of the demo there are {', '.join(mix.TASKS)}; vlm-eagle benchmarks lists all others."
    )


def load_benchmarks(
    names: Sequence[str], limit: int | None = None, console: Console | None = None, images: Path = IMAGES
) -> list[Benchmark]:
    """Those of several benchmarks that can be used; of the others the console is told why not. A group's name, such as mmspec,
    stands for all in it, and `group=source` gives them one source.

    Raises:
        UserError: none can be used.
    """
    loaded, failed = [], []
    for name in expand(names):
        try:
            loaded.append(load_benchmark(name, limit, images=images))
        except UserError as error:
            failed.append(f"{name}: {error}")
    if not loaded:
        raise UserError("\n".join(failed) or "No benchmark was named.")
    for message in failed:
        (console or Console(stderr=True)).print(f"Left out: {message}", style="yellow", markup=False, highlight=False)
    return loaded


def expand(names: Sequence[str]) -> list[str]:
    """The names with groups replaced by their members."""
    single = []
    for name in names:
        group, equals, source = name.partition("=")
        single += [f"{member}{equals}{source}" for member in GROUPS.get(_plain_name(group), ())] or [name]
    return single


def _plain_name(name: str) -> str:
    """The table's spelling of a name: `mt_bench` and `mtbench` are mt-bench."""
    plain = {known.replace("-", ""): known for known in (*ENTRIES, *GROUPS)}
    return plain.get(name.lower().replace("-", "").replace("_", ""), name)


def _load(entry: Entry, source: str | Path | None, limit: int | None, seed: int, images: Path) -> Benchmark:
    where = source if source is not None else entry.hub
    if where is None:
        raise UserError(f"{entry.name} is on no hub. {entry.obtain} (--benchmarks {entry.name}=FOLDER)")
    draw = PromptDraw(seed, entry.per_category or _least(entry.count, limit), bool(entry.per_category), images)
    skipped, examples, read, others = Counter(), {}, 0, 0
    for row in _rows(entry, where, source is None):
        read += 1
        try:
            if isinstance(row, BadRow):
                raise row
            question = entry.question(row)
            if question is None:
                others += 1
            else:
                draw.add(question)
        except BadRow as error:
            skipped[error.reason] += 1
            examples.setdefault(error.reason, str(error))
    prompts = draw.prompts(limit)
    if not prompts:
        raise UserError(_nothing_usable(entry, where, read, others, skipped, examples))
    return Benchmark(entry.name, prompts, dict(skipped), entry.max_new_tokens, entry.citation)


def _rows(entry: Entry, source: str | Path, is_default: bool) -> Iterator[Row | BadRow]:
    """The rows of the entry's files."""
    on_hub = is_hub_id(source)
    root = None if on_hub else Path(source) if Path(source).is_dir() else Path(source).parent
    try:
        files = data_files(source, entry.split, config=entry.config, files=entry.files if on_hub else entry.local)
    except UserError as error:
        advice = f"\nA copy elsewhere is given as --benchmarks {entry.name}=FOLDER." if is_default else ""
        raise UserError(f"{error}{advice}") from None
    for file in files:
        table = next((table for pattern, table in entry.tables.items() if fnmatch(PurePosixPath(file).name, pattern)), "")
        for row_source, values in file_rows(file, name_of(file, source), table):
            yield _row(values, row_source, root, entry.languages[0])


def _row(values: Any, source: str, root: Path | None, language: str) -> Row | BadRow:
    if isinstance(values, BadRow):
        return values
    if not isinstance(values, dict):
        return BadRow(source, "not an object", f"expected a JSON object, found {type(values).__name__}")
    return Row(values, source, root, language)


def in_words(skipped: Mapping[str, int]) -> str:
    """Reasons for which prompts were skipped: `3 x image missing, 1 x too long`, the most frequent first."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(skipped).most_common())


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _nothing_usable(
    entry: Entry, source: str | Path, read: int, others: int, skipped: Counter[str], examples: dict[str, str]
) -> str:
    if not read:
        return f"{source} holds no rows."
    reasons = in_words(skipped | Counter({"of another task": others}) if others else skipped)
    first = f"\nThe first: {examples[skipped.most_common(1)[0][0]]}" if skipped else ""
    return f"{source} holds no usable prompt of {entry.name} in {read} rows: {reasons}.{first}\n" \
        f"Its schema is: {entry.schema}."  # fmt: skip
