"""Whatever lies in a benchmark's file: a prompt, or a skip that is counted and explained; and the rest still runs."""

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from benchmark_files import CEVAL_FIELDS, embedded, mmmu_row, png, write, write_csv, write_jsonl, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import ENTRIES, load_benchmark, load_benchmarks
from vlm_eagle.evaluation.benchmarks.entry import Question, Row
from vlm_eagle.evaluation.benchmarks.pictures import read_picture


@pytest.fixture
def load(tmp_path):
    """Loads a benchmark from rows of a JSONL file."""

    def from_rows(name, rows, **more):
        write_jsonl(tmp_path / "rows.jsonl", rows)
        return load_benchmark(name, source=tmp_path / "rows.jsonl", images=tmp_path / "pictures", **more)

    return from_rows


def huge_png(width=100_000, height=100_000):
    """A few bytes that claim a picture of 10^10 pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(bytes(10))]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def strip_png():
    file = io.BytesIO()
    Image.new("RGB", (1000, 2)).save(file, format="PNG")
    return file.getvalue()


# one bad row beside a good one


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("gsm8k", {"question": "  \n"}, "empty question"),
        ("gsm8k", {"question": None}, "missing field"),
        ("gsm8k", {"query": "What?"}, "missing field"),
        ("gsm8k", {"question": ["What?"]}, "bad field"),
        ("gsm8k", {"question": True}, "bad field"),
        ("gsm8k", {"question": float("nan")}, "bad field"),
        ("gsm8k", {"question": 10**400}, "bad field"),
        ("gsm8k", {"question": "lone \ud800"}, "bad text"),
        ("gsm8k", ["What?"], "not an object"),
        ("gsm8k", 7, "not an object"),
        ("gsm8k", {"turns": ["first", " "]}, "empty question"),
        ("gsm8k", {"turns": "first"}, "bad field"),
        ("gsm8k", {"turns": [["first"]]}, "bad field"),
    ],
)
def test_a_bad_row_costs_only_itself(load, name, row, reason):
    benchmark = load(name, [{"question": "How many?"}, row])
    assert len(benchmark.prompts) == 1
    assert benchmark.skipped == {reason: 1}


def test_lines_that_are_no_json_are_counted(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"question": \n{"question": "How many?"}\n\xff\xfe\n')
    benchmark = load_benchmark("gsm8k", source=tmp_path / "rows.jsonl")
    assert (len(benchmark.prompts), benchmark.skipped) == (1, {"bad JSON": 2})


def test_csv_rows_with_a_comma_too_many_are_counted(tmp_path):
    rows = [(1, "题", "a", "b", "c", "d", "A", ""), (2, "题", "a, unquoted", "b", "c", "d", "A", "")]
    write_csv(tmp_path / "c" / "val" / "logic_val.csv", CEVAL_FIELDS, rows)
    file = tmp_path / "c" / "val" / "logic_val.csv"
    file.write_text(file.read_text(encoding="utf-8").replace('"a, unquoted"', "a, unquoted"), encoding="utf-8")
    benchmark = load_benchmark("ceval", source=tmp_path / "c")
    assert (len(benchmark.prompts), benchmark.skipped) == (1, {"bad CSV": 1})


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("missing.png", "image missing"),
        ("", "missing field|image missing"),
        (None, "missing field"),
        ({"bytes": None, "path": "missing.png"}, "image missing"),
        ({"bytes": None, "path": None}, "image missing"),
        ("../secret.png", "path leaves folder"),
        ("sub/../../secret.png", "path leaves folder"),
        ("link.png", "path leaves folder"),
        ("nul\0.png", "bad path"),
        ("https://host/a.png", "image missing"),
        ("text.png", "image broken"),
        ("huge.png", "image too large"),
        ("larger.png", "image too large"),
        ("strip.png", "image too long"),
        (["good.png"], "bad image"),
        (5, "bad image"),
    ],
)
def test_bad_images_are_counted(load, tmp_path, image, reason):
    (tmp_path.parent / "secret.png").write_bytes(png(1))
    (tmp_path / "link.png").symlink_to(tmp_path.parent / "secret.png")
    (tmp_path / "good.png").write_bytes(png(1))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "huge.png").write_bytes(huge_png())
    (tmp_path / "larger.png").write_bytes(huge_png(10_000, 7_000))  # beyond our limit, not yet Pillow's
    (tmp_path / "strip.png").write_bytes(strip_png())
    benchmark = load("textvqa", [{"question": "what?", "image": image}, {"question": "what?", "image": "good.png"}])
    assert len(benchmark.prompts) == 1
    assert sum(benchmark.skipped.values()) == 1
    assert set(benchmark.skipped) <= set(reason.split("|"))


@pytest.mark.parametrize(("data", "reason"), [(b"no picture", "image broken"), (huge_png(), "image too large")])
def test_bad_embedded_images_are_counted(tmp_path, data, reason):
    rows = [{"image": {"bytes": data, "path": "a.png"}, "query": "Q?"}, {"image": embedded(1), "query": "Q?"}]
    write_parquet(tmp_path / "copy" / "data" / "test-0.parquet", rows)
    benchmark = load_benchmark("chartqa", source=tmp_path / "copy", images=tmp_path / "pictures")
    assert (len(benchmark.prompts), benchmark.skipped) == (1, {reason: 1})


def test_pictures_in_memory_become_files(tmp_path):
    picture = read_picture(Image.open(io.BytesIO(png(1))), "f:1", ())
    with Image.open(picture.file(tmp_path)) as again, Image.open(io.BytesIO(png(1))) as first:
        assert again.tobytes() == first.tobytes()


def test_a_named_file_of_a_hub_row_is_not_looked_up_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png(1))
    with pytest.raises(BadRow, match="not embedded"):
        read_picture("a.png", "owner/name/f:1", ())


def test_mmstar_without_options_is_refused(load, tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    rows = [{"question": "Which?", "image": "a.png"}, {"question": "Which?\nOptions: A: x, B: y", "image": "a.png"}]
    assert load("mmstar", rows).skipped == {"no options": 1}


@pytest.mark.parametrize(
    ("question", "options", "images", "reason"),
    [
        ("Look at <image 2>.", "['a']", {1: 1}, "missing field"),
        ("Look at <image 9>.", "['a']", {1: 1}, "missing field"),
        ("Look at <image 1>.", "['a', ['b']]", {1: 1}, "bad field"),
        ("Look at <image 1>.", "__import__('os')", {1: 1}, "bad field"),
        ("Look at <image 1>.", "['a'", {1: 1}, "bad field"),
        ("Look at <image 1>.", "[" * 5000, {1: 1}, "bad field"),
        ("", "['a']", {1: 1}, "empty question"),
    ],
)
def test_bad_mmmu_rows_are_counted(tmp_path, question, options, images, reason):
    rows = [mmmu_row("validation_Art_1", "<image 1>?", "['a', 'b']", {1: 1}), mmmu_row("x", question, options, images)]
    write_parquet(tmp_path / "copy" / "Art" / "validation-0.parquet", rows)
    benchmark = load_benchmark("mmmu", source=tmp_path / "copy", images=tmp_path / "pictures")
    assert (len(benchmark.prompts), benchmark.skipped) == (1, {reason: 1})


# nothing usable


def test_an_unknown_schema_says_what_is_expected_and_what_is_there(load, tmp_path):
    with pytest.raises(UserError) as said:
        load("gsm8k", [{"prompt": "What?", "label": 3}, {"prompt": "Why?", "label": 4}])
    for part in (str(tmp_path / "rows.jsonl"), "2 rows", "needs question", "prompt, label", "question; answer", "rows.jsonl:1"):
        assert part in str(said.value)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda folder: folder / "nowhere", "no such file"),
        (lambda folder: folder, "no data files"),
        (lambda folder: ((folder / "a.jsonl").write_text("") and None) or folder / "a.jsonl", "no rows"),
        (lambda folder: (folder / "a.txt").write_text("x") and folder / "a.txt", "unknown kind of file"),
        (lambda folder: (folder / "a.parquet").write_text("x") and folder / "a.parquet", "cannot be read"),
    ],
)
def test_sources_that_hold_nothing(tmp_path, make, part):
    with pytest.raises(UserError, match=part):
        load_benchmark("gsm8k", source=make(tmp_path))


def test_a_file_of_other_tasks(tmp_path):
    source = write("mmspec-gqa", tmp_path / "copy") / "testmini"
    with pytest.raises(UserError, match="1 x of another task"):
        load_benchmark("mmspec-coco", source=source)


def test_mmspec_says_where_it_is_to_be_had():
    with pytest.raises(UserError, match="killthefullmoon/MMSpec"):
        load_benchmark("mmspec-coco")


def test_no_limit_below_one(load):
    with pytest.raises(UserError, match="limit must be at least 1"):
        load("gsm8k", [{"question": "Q"}], limit=0)


def test_the_rest_is_loaded_and_the_reason_said(tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_jsonl(good, [{"question": "How many?"}])
    write_jsonl(bad, [{"ask": "How many?"}])
    console = Console(file=io.StringIO(), width=400)
    loaded = load_benchmarks([f"gsm8k={bad}", "nosuch", f"math500={tmp_path / 'x'}", f"gsm8k={good}"], console=console)
    assert [len(benchmark.prompts) for benchmark in loaded] == [1]
    said = console.file.getvalue()
    assert said.count("Left out:") == 3
    assert "missing field" in said
    assert "'nosuch' is neither a benchmark" in said
    with pytest.raises(UserError, match="missing field"):
        load_benchmarks([f"gsm8k={bad}"])


# whatever JSON holds

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["<image 1>", "a.png", "[]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(
    {"turns", "prompt", "question", "query", "instruction", "input", "problem", "A", "B", "C", "D", "", "Question", "image"}
    | {"options", "image_1", "image_2", "file_name", "decoded_image", "choices", "metadata", "topic", "category", "id", "index"}
    | {"question_id", "task_id", "unique_id", "subject", "subfield", "type", "human_or_machine", "questionId", "question_types"}
)
GOOD = {
    "turns": ["First?", "Then?"], "question": "<image 1> What?\nOptions: A: x", "query": "What?", "problem": "What?",
    "prompt": "def f():", "instruction": "Say.", "Question": "题", "A": "a", "B": "b", "C": "c", "D": "d", "image": "a.png",
    "image_1": "a.png", "options": "['a', 'b']", "topic": "general vqa", "id": "validation_Art_1", "decoded_image": "a.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.png").write_bytes(png(1))
    return folder


def outcome(entry, row):
    """(the question, None), or (None, why not)."""
    try:
        return entry.question(row), None
    except BadRow as error:
        return None, error


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in ("gsm8k-100", "ceval-104")])
def test_any_row_is_a_prompt_or_an_explained_skip(folder, name):
    entry = ENTRIES[name]

    @settings(max_examples=60)
    @given(
        changed=st.dictionaries(st.sampled_from(FIELDS), JSON | st.binary(max_size=8), max_size=6),
        dropped=st.sets(st.sampled_from(FIELDS), max_size=3),
    )
    def check(changed, dropped):
        values = {key: value for key, value in {**GOOD, **changed}.items() if key not in dropped}
        row = Row(values, f"{folder}/rows.jsonl:3", folder, entry.languages[0])
        question, error = outcome(entry, row)
        if error is not None:
            assert error.reason
            assert str(error).startswith(f"{folder}/rows.jsonl:3: {error.reason}: ")
        elif question is not None:
            assert isinstance(question, Question)
            assert question.text.strip()
            assert question.rank(0) == question.rank(0)
            prompt = question.prompt(question.key, folder)
            assert prompt.conversation.messages[-1].content
            json.dumps([prompt.id, prompt.language, prompt.category, *prompt.follow_ups]).encode()

    check()


@settings(max_examples=30)
@given(rows=st.lists(JSON | st.fixed_dictionaries({"question": JSON}), min_size=1, max_size=8))
def test_every_row_is_counted(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(file, [{"question": "How many?"}, *rows])
    benchmark = load_benchmark("gsm8k", source=file)
    assert len(benchmark.prompts) + sum(benchmark.skipped.values()) == len(rows) + 1
