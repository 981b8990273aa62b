"""Every mix loads, says what its founding document says, and runs on small local copies of its sources."""

import json

import pytest
import yaml
from samples import WRITERS, chat, write

from data_recipes.build import BuildOptions, build
from data_recipes.mix import MIXES, load_mix, make_mix, mix_names
from vlm_eagle.errors import UserError

ALONE = BuildOptions(workers=1)


def local_sources(folder, name):
    recipes = {part.recipe.name for part in load_mix(name).parts}
    for recipe in recipes:
        if recipe == "sharegpt" and name == "english-54k":
            WRITERS[recipe](folder / recipe, "ShareGPT_V3_unfiltered_cleaned_split_no_imsorry.json")
        else:
            WRITERS[recipe](folder / recipe)
    return [f"{recipe}={folder / recipe}" for recipe in sorted(recipes)]


@pytest.mark.parametrize("name", mix_names())
def test_a_mix_runs_offline(tmp_path, name):
    summary = build(make_mix(name, local_sources(tmp_path, name)), tmp_path / "out", ALONE)
    assert all(part["kept"] > 0 for part in summary["parts"])
    for counts in [summary["counts"], *summary["parts"]]:
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    assert summary["counts"]["read"] == sum(part["read"] for part in summary["parts"])
    assert sum(part["missing"] for part in summary["parts"]) == sum(
        part["wanted"] - part["kept"] for part in summary["parts"] if part["wanted"]
    )


def totals(name):
    return {part.recipe.name: part.total for part in load_mix(name).parts}


def test_the_mixes_are_those_of_the_documents():
    assert totals("bilingual-135k") == {"sharegpt": 68_000, "sharegpt-zh-en": 135_000 - 68_000}
    english = totals("english-54k")
    assert english == {"sharegpt": 0.45 * 54_000, "ultrachat": 0.35 * 54_000, "perfectblend": 0.2 * 54_000}
    assert totals("eaglechat-alone") == {"eaglechat": None}
    assert totals("ultrachat-sharegpt") == {"sharegpt": 68_000, "ultrachat": None, "ultrachat-gen": None}


def test_our_vl_mix_is_half_pictures_a_fifth_chinese_and_complete():
    parts = load_mix("vl-long-answers").parts
    total = sum(part.total for part in parts)
    assert total == 120_000
    assert sum(part.total for part in parts if part.recipe.modality == "pictures") == total / 2
    assert sum(part.total for part in parts if "zh" in part.languages) == total / 5


@pytest.mark.parametrize("name", mix_names())
def test_a_mix_gives_its_reasons(name):
    text = (MIXES / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.count("#") >= 1
    assert yaml.safe_load(text)["about"]


def test_the_chinese_part_is_chinese(tmp_path):
    summary = build(make_mix("bilingual-135k", local_sources(tmp_path, "bilingual-135k")), tmp_path / "out", ALONE)
    assert summary["parts"][1]["languages"] == {"zh": 5}
    both = tmp_path / "sharegpt-zh-en/sharegpt_jsonl"
    merged = tmp_path / "one_file.jsonl"
    merged.write_text("".join(file.read_text(encoding="utf-8") for file in sorted(both.glob("*.jsonl"))), encoding="utf-8")
    sources = [f"sharegpt={tmp_path / 'sharegpt'}", f"sharegpt-zh-en={merged}"]
    summary = build(make_mix("bilingual-135k", sources), tmp_path / "again", ALONE)
    assert summary["parts"][1]["languages"] == {"zh": 5}
    assert summary["parts"][1]["dropped"] == {"other language": 5}


def test_a_total_keeps_the_proportions():
    counts = lambda total: [part.total for part in make_mix("english-54k", [], total).parts]
    assert counts(54_000) == [24_300, 18_900, 10_800]
    assert counts(100) == [45, 35, 20]
    assert counts(7) == [3, 3, 1]
    assert all(sum(counts(total)) == total for total in range(1, 60))
    assert [part.total for part in make_mix("eaglechat-alone", [], 10).parts] == [10]


def test_a_conversation_of_two_parts_counts_once(tmp_path):
    WRITERS["format-sharegpt"](tmp_path / "a")
    mix = tmp_path / "twice.yaml"
    part = {"recipe": "format-sharegpt", "origin": str(tmp_path / "a")}
    mix.write_text(yaml.safe_dump({"about": "the same twice", "parts": [part, part]}))
    summary = build(make_mix(str(mix), []), tmp_path / "out", ALONE)
    assert [part["kept"] for part in summary["parts"]] == [3, 0]
    assert summary["parts"][1]["dropped"] == {"duplicate": 3}
    details = [json.loads(line)["detail"] for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert all(detail.startswith("the same as format-sharegpt-") for detail in details)


@pytest.mark.parametrize("end", ["", " End."])
def test_what_is_drawn_in_reserve_and_not_needed_takes_nothing_from_later_parts(tmp_path, end):
    """Two parts of the same rows (or nearly so): each row that is dropped as a duplicate repeats one that is kept."""
    for name, ending in (("a", ""), ("b", end)):
        rows = [{"conversations": [ask, {**say, "value": say["value"] + ending}]} for ask, say in map(chat, range(100))]
        write(tmp_path / name / "rows.jsonl", rows)
    mix = tmp_path / "twice.yaml"
    parts = [
        {"recipe": "format-sharegpt", "origin": str(tmp_path / name), "total": total} for name, total in (("a", 10), ("b", 80))
    ]
    mix.write_text(yaml.safe_dump({"parts": parts}))
    summary = build(make_mix(str(mix), []), tmp_path / "out", ALONE)
    assert [part["kept"] for part in summary["parts"]] == [10, 80]
    ids = {json.loads(line)["id"] for side in ("train", "held_out") for line in (tmp_path / f"out/{side}.jsonl").open()}
    details = [json.loads(line)["detail"] for line in (tmp_path / "out/rejected.jsonl").open()]
    assert details
    assert all(next(word for word in detail.split() if word.startswith("format-")) in ids for detail in details)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("parts: [", "not readable as YAML"),
        ("about: nothing", "parts is a list"),
        ("parts: [{recipe: nosuch}]", "recipe is one of"),
        ("parts: [{recipe: [sharegpt]}]", "recipe is one of"),
        ("parts: [{recipe: sharegpt, weight: 3}]", "a part has the keys"),
        ("parts: [{recipe: sharegpt, total: -1}]", "whole number"),
        ("parts: [{recipe: sharegpt, total: true}]", "whole number"),
        ("parts: [{recipe: sharegpt, files: a.json}]", "lists of words"),
        ("parts: [{recipe: format-llava}]", "--source format-llava=PATH"),
    ],
)
def test_a_bad_mix_is_explained(tmp_path, text, says):
    file = tmp_path / "mix.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=says):
        make_mix(str(file), [])


@pytest.mark.parametrize(
    ("name", "sources", "total", "files", "says"),
    [
        ("sharegtp", [], None, (), "Did you mean sharegpt"),
        ("bilingual-135k", ["somewhere"], None, (), "RECIPE=PATH"),
        ("bilingual-135k", ["ultrachat=x"], None, (), "the parts of bilingual-135k are"),
        ("bilingual-135k", [], None, ("*.json",), "single recipe"),
        ("sharegpt", ["a", "b"], None, (), "one source"),
        ("sharegpt", ["."], None, ("*.nothing",), "no file there matches"),
        ("sharegpt", ["."], None, ("/etc/*",), "relative to the source"),
        ("sharegpt", ["."], None, ("",), "relative to the source"),
        ("sharegpt", [], 0, (), "at least 1"),
        ("ultrachat-sharegpt", [], 10, (), "no proportions"),
        ("format-llava", [], None, (), "--source PATH"),
    ],
)
def test_a_bad_request_is_explained(name, sources, total, files, says):
    with pytest.raises(UserError, match=says):
        make_mix(name, sources, total, files)
