"""Which rows are drawn and which are held out follows from their content, not from where they stand."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from samples import answer, chat, picture, question, write

from data_recipes.build import BuildOptions, build
from data_recipes.choose import BottomK, draw_key, is_held_out
from data_recipes.conversion import draw_digest
from data_recipes.mix import make_mix
from data_recipes.readers import read_sharegpt


@given(st.lists(st.integers(0, 1000), unique=True), st.integers(0, 30))
def test_a_draw_keeps_the_smallest_keys(keys, total):
    draw, kept = BottomK(total), set()
    for number, key in enumerate(keys):
        if draw.would_keep(key):
            kept.add(number)
            gone = draw.keep(key, number)
            kept -= {gone}
    assert sorted(keys[i] for i in kept) == sorted(keys)[:total]


def test_a_draw_without_a_total_keeps_all():
    draw = BottomK(None)
    assert all(draw.would_keep(key) and draw.keep(key, i) is None for i, key in enumerate([9, 3, 9]))


def test_keys_depend_on_content_and_seed():
    assert draw_key(b"a", 0) == draw_key(b"a", 0)
    assert len({draw_key(b"a", 0), draw_key(b"b", 0), draw_key(b"a", 1), draw_key(b"a", -1)}) == 4


def make(folder, rows, name, total=None, **settings):
    out = folder / f"out-{name}"
    source = write(folder / f"{name}.jsonl", rows)
    build(make_mix("format-sharegpt", [str(source)], total), out, BuildOptions(workers=1, **settings))
    return {side: [json.loads(line)["id"] for line in (out / f"{side}.jsonl").open()] for side in ("train", "held_out")}


ROWS = [{"conversations": chat(i, 1 + i % 2)} for i in range(100)]
ROWS += [{"conversations": [*chat(200 + i), chat(i)[0]]} for i in range(25)]
ROWS += [{"conversations": [*chat(i)[:1], {"from": "gpt", "value": answer(i * 10) + " End."}]} for i in range(0, 40, 2)]


def test_the_order_of_a_source_changes_nothing(tmp_path):
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    assert make(tmp_path, ROWS, "a", total=40, held_out=0.2) == make(tmp_path, shuffled, "b", total=40, held_out=0.2)
    changed = [json.loads((tmp_path / f"out-{name}/recipe.json").read_text())["counts"]["changed"] for name in "ab"]
    assert changed[0] == changed[1] == {"last question dropped, it has no answer": 25}


def test_the_seed_changes_the_draw_and_no_ones_side(tmp_path):
    one = make(tmp_path, ROWS, "a", total=60, held_out=0.3)
    two = make(tmp_path, ROWS, "b", total=60, held_out=0.3, seed=1)
    drawn = [set(made["train"]) | set(made["held_out"]) for made in (one, two)]
    assert len(drawn[0]) == len(drawn[1]) == 60
    assert 10 < len(drawn[0] & drawn[1]) < 60
    assert not set(one["train"]) & set(two["held_out"])
    assert not set(two["train"]) & set(one["held_out"])


def test_a_larger_share_holds_out_the_same_and_more(tmp_path):
    small = make(tmp_path, ROWS, "a", held_out=0.1)
    large = make(tmp_path, ROWS, "b", held_out=0.3)
    assert set(small["held_out"]) < set(large["held_out"])
    assert make(tmp_path, ROWS, "c", held_out=0.0)["held_out"] == []


def test_the_share_is_that_of_the_conversations():
    keys = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    assert is_held_out(keys, 0.05).mean() == pytest.approx(0.05, abs=0.003)
    assert is_held_out(np.array([0, 2**64 - 1], dtype=np.uint64), 0.5).tolist() == [True, False]


def test_one_first_question_is_on_one_side(tmp_path):
    """Several answers to a question, and rewritings of its case and punctuation: knowing one is knowing the other."""
    rows = []
    for i in range(40):
        rows.append({"conversations": chat(i)})
        rows.append({"conversations": [{"from": "human", "value": question(i * 10).upper() + "!!"}, *chat(500 + i)[1:]]})
    made = make(tmp_path, rows, "a", held_out=0.4)
    lines = {row["id"]: row["messages"][0]["content"].lower().strip("!") for side in made for row in read(tmp_path, side)}
    sides = [{lines[i] for i in made[side]} for side in ("train", "held_out")]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert len(made["train"]) + len(made["held_out"]) == 80


def read(folder, side):
    return [json.loads(line) for line in (folder / f"out-a/{side}.jsonl").open()]


def test_the_first_picture_decides_the_side(tmp_path):
    """Of several pictures; the others may be anywhere."""
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(picture(f"#{i * 5000:06x}"))
    rows = [{"image": [f"{i}.png", f"{k}.png"], "conversations": chat(i * 20 + k)} for i in range(20) for k in range(4)]
    source = write(tmp_path / "rows.jsonl", rows)
    build(make_mix("format-llava", [str(source)]), tmp_path / "out-a", BuildOptions(workers=1, held_out=0.4))
    sides = [{row["messages"][0]["content"][0]["image"] for row in read(tmp_path, side)} for side in ("train", "held_out")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_one_picture_is_on_one_side(tmp_path):
    rows = []
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(picture(f"#{i * 5000:06x}"))
        rows += [{"image": f"{i}.png", "conversations": chat(i * 50 + k)} for k in range(3)]
    source = write(tmp_path / "rows.jsonl", rows)
    build(make_mix("format-llava", [str(source)]), tmp_path / "out-a", BuildOptions(workers=1, held_out=0.4))
    sides = [{row["messages"][0]["content"][0]["image"] for row in read(tmp_path, side)} for side in ("train", "held_out")]
    assert all(sides)
    assert len(sides[0]) + len(sides[1]) == 30
    assert not sides[0] & sides[1]


def test_near_duplicates_never_straddle_the_split(tmp_path):
    """Their first questions differ, so their sides might; but only one of them is kept."""
    rows = []
    for i in range(40):
        long = " ".join(answer(i * 100 + k) for k in range(4))
        rows += [
            {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": long}]}
            for ask in ("Tell me.", f"Go on {i}!")
        ]
    made = make(tmp_path, rows, "a", held_out=0.4)
    assert len(made["train"]) + len(made["held_out"]) == 40
    answers = [{row["messages"][1]["content"] for row in read(tmp_path, side)} for side in ("train", "held_out")]
    assert not answers[0] & answers[1]


def nearly(i, k):
    return {"conversations": [*chat(i)[:1], {"from": "gpt", "value": answer(i * 10) + f" {k}"}]}


def test_duplicates_do_not_shorten_a_draw(tmp_path):
    rows = [*({"conversations": chat(i)} for i in range(200)), *(nearly(i, k) for i in range(10) for k in range(2))]
    made = make(tmp_path, rows, "a", total=100)
    assert len(made["train"]) + len(made["held_out"]) == 100
    dropped = json.loads((tmp_path / "out-a/recipe.json").read_text())["counts"]["dropped"]
    assert dropped["near duplicate"] > 3
    assert sum(dropped.values()) == 120


def test_copies_of_one_row_do_not_fill_a_draw(tmp_path):
    """Of a row that is drawn early, else they would not come into the draw at all."""
    rows = [{"conversations": chat(i)} for i in range(30)]
    early = min(rows, key=lambda row: draw_key(draw_digest(read_sharegpt(row, "")), 0))
    rows += [early] * 300
    made = make(tmp_path, random.Random(2).sample(rows, len(rows)), "a", total=10)
    assert len(made["train"]) + len(made["held_out"]) == 10


def test_more_duplicates_than_the_reserve_are_said(tmp_path):
    source = write(tmp_path / "rows.jsonl", [nearly(i % 30, i) for i in range(300)])
    console = Console(record=True, width=200)
    mix = make_mix("format-sharegpt", [str(source)], 100)
    summary = build(mix, tmp_path / "out", BuildOptions(workers=1), console)
    part = summary["parts"][0]
    assert part["kept"] + part["missing"] == 100
    assert 0 < part["kept"] <= 30
    assert f"{part['missing']} of 100 are missing: more duplicates" in console.export_text()
