"""A run as a whole: its files, its numbers, its errors, its command line, and what an interrupted one leaves."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from samples import WRITERS, answer, chat, picture, question, write

from data_recipes import measure
from data_recipes.build import BuildOptions, build
from data_recipes.mix import make_mix
from vlm_eagle.commands.data import start as main
from vlm_eagle.errors import UserError

ROOT = Path(__file__).parents[2]
ALONE = BuildOptions(workers=1)


def lines(file):
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def run(folder, rows, recipe="format-sharegpt", total=None, settings=ALONE, out="out"):
    source = write(folder / "rows.jsonl", rows)
    return build(make_mix(recipe, [str(source)], total), folder / out, settings)


def test_every_rejected_row_says_where_and_why(tmp_path):
    good = chat(1)
    rows = [
        {"conversations": good},
        {"conversations": [{"from": "narrator", "value": "x"}, *good]},
        {"conversations": []},
        [1],
        {"conversations": [good[0], {"from": "gpt", "value": 3}]},
        {"conversations": [good[0], {"from": "gpt", "value": "  "}]},
        {"conversations": good},
        {"conversations": [{"from": "human", "value": "Please!"}, {"from": "gpt", "value": "\ud800 half a letter"}]},
        {"conversations": [good[0], {"from": "gpt", "value": good[1]["value"] + " End."}]},
    ]
    summary = run(tmp_path, rows)
    found = {int(row["source"].rsplit(":", 1)[1]): row["reason"] for row in lines(tmp_path / "out/rejected.jsonl")}
    assert found == {
        2: "unknown role", 3: "no messages", 4: "not an object", 5: "text missing", 6: "no answered question",
        7: "duplicate", 8: "bad text", 9: "near duplicate",
    }  # fmt: skip
    assert summary["counts"]["read"] == 9
    assert summary["counts"]["kept"] == 1
    assert sum(summary["counts"]["dropped"].values()) == 8


def test_words_about_a_picture_are_not_read_as_text(tmp_path):
    more = ({"image": "1.png"}, {"images": ["1.png"]}, {"video": "1.mp4"}, {"image": None, "images": [], "id": "text"})
    summary = run(tmp_path, [{"conversations": chat(i), **media} for i, media in enumerate(more)])
    assert summary["counts"]["dropped"] == {"has media": 3}
    assert summary["counts"]["kept"] == 1


def test_what_is_tidied_is_counted(tmp_path):
    ask, say = chat(3)
    more = chat(4)
    rows = [
        {"conversations": [{"from": "system", "value": " "}, ask, say]},
        {"conversations": [more[0], {"from": "human", "value": "Please."}, more[1], chat(5)[0]]},
        {"conversations": [*chat(6), chat(7)[0], {"from": "gpt", "value": ""}, *chat(8)]},
        {"conversations": [{"from": "human", "value": " "}, *chat(9), {"from": "gpt", "value": ""}]},
    ]
    summary = run(tmp_path, rows)
    assert summary["counts"]["changed"] == {
        "last question dropped, it has no answer": 2, "blank system prompt dropped": 1, "turns joined": 3,
        "cut at a blank message": 1,
    }  # fmt: skip
    by_row = {int(row["source"].rsplit(":", 1)[1]): row["messages"] for row in lines(tmp_path / "out/train.jsonl")}
    assert by_row[2][0]["content"] == f"{question(40)}\n\nPlease."
    assert [m["content"] for m in by_row[3]] == [question(60), answer(60)]
    assert [m["content"] for m in by_row[4]] == [question(90), answer(90)]


def test_a_system_prompt_beside_the_list(tmp_path):
    run(tmp_path, [{"system": "Be kind.", "conversations": chat(1)}])
    assert lines(tmp_path / "out/train.jsonl")[0]["messages"][0] == {"role": "system", "content": "Be kind."}


def test_the_numbers_of_recipe_json(tmp_path):
    rows = [
        {"conversations": [{"from": "human", "value": "q" * i}, {"from": "gpt", "value": f"{i} " + "a" * 10 * i}]}
        for i in (1, 2, 3)
    ]
    lengths = run(tmp_path, rows)["lengths"]
    assert lengths["question characters"] == {"mean": 2.0, "p10": 1.2, "median": 2.0, "p90": 2.8, "max": 3, "sum": 6}
    assert lengths["answer characters"]["sum"] == 2 * 3 + 60
    assert lengths["turns"]["max"] == 1
    kept = json.loads((tmp_path / "out/recipe.json").read_text())
    assert kept["settings"]["held_out"] == 0.01
    assert kept["versions"]["datasketch"]
    assert kept["parts"][0]["licence"]


def test_only_identical_ones_go_when_asked_so(tmp_path):
    rows = [{"conversations": [chat(1)[0], {"from": "gpt", "value": answer(10) + end}]} for end in ("", "", " End.")]
    counts = run(tmp_path, rows, settings=BuildOptions(workers=1, similarity=2))["counts"]
    assert (counts["kept"], counts["dropped"]) == (2, {"duplicate": 1})


def test_one_text_with_two_pictures_is_two_conversations(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(picture({"a": "red", "b": "blue"}[name]))
    rows = [{"image": f"{name}.png", "conversations": chat(1)} for name in "aba"]
    counts = run(tmp_path, rows, recipe="format-llava")["counts"]
    assert (counts["kept"], counts["dropped"], counts["pictures"]) == (2, {"duplicate": 1}, 2)


def test_pictures_of_rows_that_were_not_drawn_are_gone(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.png").write_bytes(picture(f"#{i * 4000:06x}"))
    rows = [{"image": f"{i}.png", "conversations": chat(i)} for i in range(60)]
    counts = run(tmp_path, rows, recipe="format-llava", total=5)["counts"]
    assert counts["dropped"] == {"not drawn": 55}
    assert counts["pictures"] == len([p for p in (tmp_path / "out/images").rglob("*") if p.is_file()]) == 5


def test_a_limit_reads_no_further(tmp_path):
    rows = [{"conversations": chat(i)} for i in range(5)]
    source = write(tmp_path / "rows.jsonl", rows)
    with source.open("a") as file:
        file.write("no JSON\n")
    counts = build(make_mix("format-sharegpt", [str(source)]), tmp_path / "out", BuildOptions(workers=1, limit=4))["counts"]
    assert (counts["read"], counts["kept"]) == (4, 4)


@pytest.mark.slow
def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "CHUNK", 16)
    rows = [{"conversations": chat(i % 90)} for i in range(100)]
    source = write(tmp_path / "rows.jsonl", rows)
    mix = make_mix("format-sharegpt", [str(source)])
    build(mix, tmp_path / "one", ALONE)
    build(mix, tmp_path / "two", BuildOptions(workers=2))
    for file in ("train.jsonl", "held_out.jsonl", "rejected.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_bars_that_end_where_the_source_ends(tmp_path):
    write(tmp_path / "rows.jsonl", [{"conversations": chat(i)} for i in range(70)])
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)
    build(make_mix("format-sharegpt", [str(tmp_path / "rows.jsonl")]), tmp_path / "out", ALONE, shown)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.file.getvalue()).rpartition("read format-sharegpt")[2]
    assert last.count("70/70") == 3  # read, measure, write


def test_an_existing_folder_is_left_alone(tmp_path):
    run(tmp_path, [{"conversations": chat(1)}])
    before = (tmp_path / "out/train.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        run(tmp_path, [{"conversations": chat(2)}])
    assert (tmp_path / "out/train.jsonl").read_bytes() == before


def test_a_run_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"no row can be used.*right recipe.*rows\.jsonl:1: no messages"):
        run(tmp_path, [{"question": "?"}])
    with pytest.raises(UserError, match="has no rows"):
        run(tmp_path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path):
    """Killed between gathering and choosing, by itself."""
    write(tmp_path / "rows.jsonl", [{"conversations": chat(i)} for i in range(20)])
    words = ["format-sharegpt", "--source", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"), "--workers", "1"]
    code = "import os; from data_recipes import build; from vlm_eagle.commands import data\n"
    code += "build.measure = lambda *_: os.kill(os.getpid(), 9); "
    code += f"data.start({words})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    (scratch,) = tmp_path.glob(".out-*/new/.rows.jsonl")
    assert scratch.stat().st_size
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"held_out": 1.0}, "share"),
        ({"held_out": float("nan")}, "share"),
        ({"similarity": 0.2}, "above 0.5"),
        ({"limit": 0}, "at least 1"),
        ({"seed": 2**63}, "64 bits"),
    ],
)
def test_bad_settings_are_explained(settings, says):
    with pytest.raises(UserError, match=says):
        BuildOptions(**settings)


def test_a_folder_of_pictures_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        run(tmp_path, [{"conversations": chat(1)}], settings=BuildOptions(workers=1, images=["nowhere"]))
    assert not (tmp_path / "out").exists()


@pytest.fixture(autouse=True)
def command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlm-eagle data"])  # as `vlm_eagle.commands.run` leaves it


def test_the_command_line(tmp_path, capsys):
    WRITERS["format-messages"](tmp_path / "mine")
    assert (
        main(["format-messages", "--source", str(tmp_path / "mine"), "--out", str(tmp_path / "out"), "--held-out", "0.5"]) == 0
    )
    assert "format-messages" in capsys.readouterr().out
    recipe = json.loads((tmp_path / "out/recipe.json").read_text())
    assert recipe["command"][:2] == ["vlm-eagle data format-messages", "--source"]


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--help"], 0), (["--out", "x"], 2)])
def test_without_a_name_it_lists_what_there_is(capsys, arguments, code):
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert all(
        word in shown.out + shown.err
        for word in ("sharegpt-zh-en", "vl-long-answers", "apache-2.0", "HuggingFaceH4/ultrachat_200k")
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("allava-caption", 'Languages: en. Row: {"id": ..., "image": path'),
        ("format-llava", 'Size: that of your data. Row: {"image": path'),
        ("vl-long-answers", "Parts: 20,000 allava-caption, 20,000 allava-"),
        ("no-such-name", "a recipe or a mix"),
    ],
)
def test_the_help_of_a_name_tells_what_it_is(capsys, name, says):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert says in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sharegtp", "--out", "x"], "Did you mean sharegpt"),
        (["sharegpt"], "--out is missing"),
        (["sharegpt", "--out", "x", "--source", "nowhere.json"], "no such file"),
        (["sharegpt", "--out", "x", "--sorce", "y"], "Did you mean --source"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
