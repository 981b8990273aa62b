"""A small copy of every benchmark in its true schema becomes the right prompts; what is drawn depends on the seed alone."""

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
from benchmark_files import ROWS, WRITERS, asked, png, said, write, write_jsonl

from vlm_eagle.cli import run_cli
from vlm_eagle.commands.benchmarks import Config, main
from vlm_eagle.data.conversation import ImagePart
from vlm_eagle.data.images import open_image
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import ENTRIES, expand, load_benchmark, load_benchmarks
from vlm_eagle.evaluation.benchmarks.entries.ceval import subject_of

SUBJECTS = 2  # in the copies of C-Eval and CMMLU
SIZES = {"ceval": SUBJECTS * ROWS, "cmmlu": SUBJECTS * ROWS, "ceval-104": SUBJECTS * 2}  # all others: ROWS

# name -> (id, what the user says, an image as its number's place, later turns, category, language) of one of the copy's prompts
EXPECTED = {
    "mt-bench": ("81", "Write about a red circle.", ("Now in five words.",), "writing", "en"),
    "mt-bench-zh": ("82", "三加四等于几?", ("三加五呢?",), "math", "zh"),
    "gsm8k": (None, "Ann has 2 apples and buys 2. How many?", (), None, "en"),
    "gsm8k-100": (None, "Ann has 2 apples and buys 2. How many?", (), None, "en"),
    "humaneval": ("HumanEval/10", 'def add10(a, b):\n    """Add 10 too."""\n', (), None, "en"),
    "math500": ("test/algebra/3.json", "Compute $\\sqrt{9}$.", (), "Algebra", "en"),
    "ceval": (
        "accountant-1",
        "以下是单项选择题,请选出其中的正确答案。\n\naccountant第1题:____\nA. NA\nB. 1.50\nC. 丙\nD. 丁1",
        (),
        "accountant",
        "zh",
    ),
    "cmmlu": (
        "anatomy-2",
        "以下是单项选择题,请选出其中的正确答案。\n\nanatomy第2题\nA. 甲\nB. 乙\nC. 丙\nD. 丁",
        (),
        "anatomy",
        "zh",
    ),
    "alpaca": (None, "Translate to German.\n\na circle", (), None, "en"),
    "mmstar": (
        "1",
        "<1>What is at place 1?\nOptions: A: A circle, red, B: A square, C: Nothing, D: A star",
        (),
        "coarse perception",
        "en",
    ),
    "mmmu": ("validation_Art_1", "Which follows <1>?\nA. <2>\nB. it's <3>\nC. none", (), "Art", "en"),
    "chartqa": (None, "<1>What is value 1?", (), "machine", "en"),
    "textvqa": ("34603", "<1>what does sign 1 say?", (), None, "en"),
    "docvqa": ("49154", "<1>What is line 1?", (), "handwritten, form", "en"),
    "coco-captions": ("COCO_val2014_000000000001.jpg", "<1>Describe this image in detail.", (), None, "en"),
    "mathvista": ("2", "<2>Hint: Please answer.\nQuestion: 有几个?", (), "figure QA", "zh"),
    "mmspec-gqa": ("mmspec_002", "<1>About <image 1>: general vqa 1?\nOptions: ['a', 'b']", (), "default", "en"),
    "mmspec-textvqa": ("mmspec_102", "<101>About <image 1>: text vqa 1?\nOptions: ['a', 'b']", (), "default", "en"),
    "mmspec-coco": ("mmspec_202", "<201>About <image 1>: image captioning 1?\nOptions: ['a', 'b']", (), "default", "en"),
    "mmspec-charxiv": ("mmspec_302", "<301>About <image 1>: chart understanding 1?\nOptions: ['a', 'b']", (), "default", "en"),
    "mmspec-mmmu-pro": (
        "mmspec_402",
        "<401>About <image 1>: complex reasoning pro 1?\nOptions: ['a', 'b']",
        (),
        "default",
        "en",
    ),
    "mmspec-multi-turn": (
        "mmspec_502",
        "<501>About <image 1>: multi-turn conversation 1?\nOptions: ['a', 'b']",
        ("And why?", "Write a poem."),
        "default",
        "en",
    ),
}


@pytest.fixture
def load(tmp_path):
    """Loads benchmarks with pictures under the test's folder."""
    return lambda name, *rest, **more: load_benchmark(name, *rest, images=tmp_path / "pictures", **more)


def test_every_entry_has_a_copy():
    assert set(WRITERS) == set(ENTRIES)
    assert set(EXPECTED) == set(ENTRIES) - {"ceval-104"}


@pytest.mark.parametrize("name", list(ENTRIES))
def test_the_true_schema_becomes_prompts(load, tmp_path, name):
    benchmark = load(name, source=write(name, tmp_path / "copy"))
    entry = ENTRIES[name]
    assert (benchmark.name, benchmark.skipped) == (name, {})
    assert len(benchmark.prompts) == SIZES.get(name, ROWS)
    assert (benchmark.max_new_tokens, benchmark.citation) == (entry.max_new_tokens, entry.citation)
    ids = [prompt.id for prompt in benchmark.prompts]
    assert len(set(ids)) == len(ids)
    assert {prompt.language for prompt in benchmark.prompts} <= set(entry.languages)
    for prompt in benchmark.prompts:
        (message,) = prompt.conversation.messages
        assert message.role == "user"
        assert prompt.has_media == (entry.modality != "text")
        for part in message.content:
            if isinstance(part, ImagePart):
                assert open_image(part.image, "").size[0] > 1


@pytest.mark.parametrize("name", list(EXPECTED))
def test_prompts_are_word_for_word(load, tmp_path, name):
    id_, text, follow_ups, category, language = EXPECTED[name]
    prompts = load(name, source=write(name, tmp_path / "copy")).prompts
    (prompt,) = [p for p in prompts if (p.id == id_ if id_ else said(p) == text)]
    assert said(prompt) == text
    assert (prompt.follow_ups, prompt.category, prompt.language) == (follow_ups, category, language)


def test_modalities(load, tmp_path):
    kinds = {p.id: p.modality for p in load("mmmu", source=write("mmmu", tmp_path / "copy")).prompts}
    assert kinds == {"validation_Art_1": "multi-image", "validation_Math_2": "image", "validation_Math_10": "image"}


def test_an_image_stands_at_its_first_mention_and_is_named_after(load, tmp_path):
    prompts = {p.id: said(p) for p in load("mmmu", source=write("mmmu", tmp_path / "copy")).prompts}
    assert prompts["validation_Math_2"] == "<4> What is shown? Look at image 1 again.\nA. a\nB. b"
    assert prompts["validation_Math_10"] == "How many things are in <5>?"


# other forms that the same benchmarks come in

FORMS = [
    ("mt-bench", {"prompt": ["First?", "Second?"], "prompt_id": 7, "category": "writing"}, "First?", ("Second?",)),
    ("gsm8k", {"question_id": 3, "category": "gsm8k", "turns": ["How many?"], "reference": ["#### 2"]}, "How many?", ()),
    ("humaneval", {"question_id": 3, "category": "humaneval", "turns": ["def f():"]}, "def f():", ()),
    ("alpaca", {"question_id": 3, "category": "alpaca", "turns": ["Name a thing."]}, "Name a thing.", ()),
    ("mmstar", {"question": "What?", "A": "x", "B": 2, "C": "y", "image": "a.png"}, "<1>What?\nA. x\nB. 2\nC. y", ()),
    ("mmstar", {"question": "Q\nOptions: A: x", "image": {"bytes": None, "path": "images/a.png"}}, "<1>Q\nOptions: A: x", ()),
    ("mmmu", {"id": "t", "question": "Q", "options": ["x", "y"], "image_1": "a.png"}, "<1>Q\nA. x\nB. y", ()),
    ("chartqa", {"image": "images/a.png", "question": "Q?", "answer": "2", "type": "human_test"}, "<1>Q?", ()),
    ("mathvista", {"pid": "1", "question": "Q?", "choices": ["x", "y"], "image": "images/a.png"}, "<1>Q?\nA. x\nB. y", ()),
    ("coco-captions", {"image": "a.png", "question": "Please carefully observe"}, "<1>Describe this image in detail.", ()),
    ("coco-captions", {"filename": "a.png", "cocoid": 3, "sentences": []}, "<1>Describe this image in detail.", ()),
    ("ceval", {"question": "题", "A": 1, "B": 2.5, "C": 3.0, "D": "四", "subject": "逻辑"},
     "以下是单项选择题,请选出其中的正确答案。\n\n题\nA. 1\nB. 2.5\nC. 3\nD. 四", ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "text", "follow_ups"), FORMS)
def test_other_forms(load, tmp_path, name, row, text, follow_ups):
    write_jsonl(tmp_path / "copy" / "rows.jsonl", [row])
    (tmp_path / "copy" / "images").mkdir()
    (tmp_path / "copy" / "images" / "a.png").write_bytes(png(1))
    benchmark = load(name, source=tmp_path / "copy" / "rows.jsonl")
    (prompt,) = benchmark.prompts
    assert (said(prompt), prompt.follow_ups) == (text, follow_ups)


def test_ceval_is_the_same_from_archive_and_hub(load, tmp_path):
    archive, hub = write("ceval", tmp_path / "archive"), write("ceval-104", tmp_path / "hub")
    asked = [[(p.id, said(p)) for p in load("ceval-104", source=source).prompts] for source in (archive, hub)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("file", "subject"),
    [
        ("ceval/ceval-exam/accountant/val-00000-of-00001.parquet", "accountant"),
        ("ceval/val/high_school_biology_val.csv", "high_school_biology"),
        ("haonan-li/cmmlu/agronomy/test/0000.parquet", "agronomy"),
        ("cmmlu/test/agronomy.csv", "agronomy"),
        ("x/logic/ceval-exam-val.parquet", "ceval-exam"),
        ("x/questions.jsonl", None),
    ],
)
def test_subjects(file, subject):
    assert subject_of(Path(file)) == subject


# names and files


@pytest.mark.parametrize("name", ["mtbench", "mt_bench", "MT-Bench", "mt-bench"])
def test_spellings(load, tmp_path, name):
    source = write("mt-bench", tmp_path / "copy")
    assert load(f"{name}={source}").name == "mt-bench"


def test_the_names_of_the_founding_tables():
    for name in ("humaneval", "math500", "ceval", "cmmlu", "gsm8k", "mtbench", "mt-bench-zh", "ceval-104", "gsm8k-100"):
        with pytest.raises(UserError, match="no such file"):
            load_benchmark(f"{name}=no/where/at-all")


def test_a_group_stands_for_its_members(tmp_path):
    source = write("mmspec-gqa", tmp_path / "copy")
    loaded = load_benchmarks([f"mmspec={source}"], images=tmp_path / "pictures")
    assert [benchmark.name for benchmark in loaded] == expand(["mmspec"])
    assert [len(benchmark.prompts) for benchmark in loaded] == [ROWS] * 6
    nested = load_benchmarks([f"mmspec={source / 'test'}"], images=tmp_path / "pictures")
    assert [asked(b) for b in nested] == [asked(b) for b in loaded]


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean math500"):
        load_benchmark("math50")


def test_a_jsonl_file_of_conversations(load, tmp_path):
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "三加四?"}, {"role": "assistant", "content": "七"}]},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": []},
    ]
    write_jsonl(tmp_path / "mine.jsonl", rows)
    benchmark = load(str(tmp_path / "mine.jsonl"))
    (prompt,) = benchmark.prompts
    assert (benchmark.name, benchmark.max_new_tokens, prompt.id, prompt.language) == ("mine", None, "a", "zh")
    assert [message.role for message in prompt.conversation.messages] == ["user"]
    assert benchmark.skipped == {"empty question": 1, "no messages": 1}


def test_the_list_names_every_benchmark(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run_cli(main, Config, "", argv=[]) == 0
    shown = capsys.readouterr().out
    for entry in ENTRIES.values():
        assert entry.name in shown
        assert entry.citation.split()[0] in shown
    assert "2 per category of 1,346" in shown
    assert "describe" in shown


def test_prompts_are_shown_before_any_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write("mmspec-multi-turn", tmp_path / "copy")
    assert run_cli(main, Config, "", argv=["--benchmarks", f"mmspec-multi-turn={source}", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "then: Write a poem." in shown
    assert "1 prompts, answers of at most 1024 tokens" in shown
    assert json.dumps("x") not in shown


def test_the_table_in_the_docs_is_the_table():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("| ")]
    documented = {row[0]: row[1:] for row in rows}
    for entry in ENTRIES.values():
        source = f"`{entry.hub}`, {entry.split}" if entry.hub else "a folder (GitHub)"
        languages, length = ", ".join(entry.languages), f"{entry.max_new_tokens:,}"
        assert documented[entry.name] == [entry.drawn, entry.modality, languages, length, source, entry.licence]


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES.values() if entry.hub])
def test_the_hub_is_asked_for_the_right_files(load, monkeypatch, name):
    entry, asked_for = ENTRIES[name], []
    monkeypatch.setattr(
        "vlm_eagle.evaluation.benchmarks.load.data_files", lambda *rest, **more: asked_for.append((*rest, more)) or []
    )
    with pytest.raises(UserError, match="no rows"):
        load(name)
    assert asked_for == [(entry.hub, entry.split, {"config": entry.config, "files": entry.files})]


def test_no_file_of_this_machine_is_taken_for_one_of_the_hub(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png(1))
    write_jsonl(tmp_path / "rows.jsonl", [{"query": "Q", "image": "a.png"}])
    monkeypatch.setattr("vlm_eagle.evaluation.benchmarks.load.data_files", lambda *_, **__: ["rows.jsonl"])
    with pytest.raises(UserError, match="not embedded"):
        load("chartqa")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ceval", "accountant/val-00000-of-00001.parquet"),
        ("cmmlu", "agronomy/test/0000.parquet"),
        ("mmmu", "Art/validation-00000-of-00001.parquet"),
        ("mmstar", "mmstar.parquet"),
        ("mt-bench-zh", "data/mt_bench_zh/question.jsonl"),
    ],
)
def test_patterns_match_the_files_of_the_hub(name, path):
    assert any(fnmatch(path, pattern) for pattern in ENTRIES[name].files)
    assert not any(fnmatch(path.replace("val", "dev").replace("/test/", "/dev/"), p) for p in ENTRIES[name].files if "*" in p)


def test_data_does_not_steer_the_terminal(tmp_path, capsys):
    write_jsonl(tmp_path / "q.jsonl", [{"question_id": "\x1b[31m[red]", "turns": ["\x1b[2Jwiped [bold]x", "\x9b1m\r"]}])
    assert run_cli(main, Config, "", argv=["--benchmarks", f"mt-bench={tmp_path / 'q.jsonl'}"]) == 0
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x9b", "\r"}
    assert "[red]" in shown
    assert "wiped [bold]x" in shown


def test_a_source_may_lie_in_the_home_folder(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("math500", tmp_path / "copies" / "math500")
    assert len(load("math500=~/copies/math500").prompts) == ROWS


def test_a_demo_benchmark_has_no_other_source():
    with pytest.raises(UserError, match="generated here"):
        load_benchmark("describe=elsewhere")
