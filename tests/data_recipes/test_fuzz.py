"""Any JSON value in any field gives a conversation or a counted rejection with its reason; nothing crashes, nothing is lost."""

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import WRITERS

from data_recipes.build import BuildOptions, build
from data_recipes.conversion import convert, draw_digest
from data_recipes.mix import make_mix
from data_recipes.pictures import PictureShelf
from data_recipes.readers import tidy
from data_recipes.recipe import RECIPES
from data_recipes.stream import rows
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.conversation_rows import parse_conversation, read_conversations

WORDS = st.sampled_from(
    ["", " ", "human", "gpt", "user", "assistant", "system", "<image>", "<image>\n<image>", "../x.png", "a\0b"]
)
TEXT = WORDS | st.text(max_size=30) | st.just("\ud800") | st.just('<div class="markdown">x</div>')
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
KEYS = st.sampled_from(
    ["from", "value", "role", "content", "type", "text", "image", "image_url", "url", "bytes", "path", "human", "id"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
DIFFERENT = ("sharegpt", "sharegpt-zh-en", "ultrachat", "allava-caption", "llava-onevision", "coco-captions", "format-messages")
FIXED = settings(suppress_health_check=list(HealthCheck), max_examples=50)


@pytest.fixture(scope="module")
def good_rows(tmp_path_factory):
    """A few true rows of every recipe, as their reader gets them."""
    found = {}
    for name in DIFFERENT:
        recipe, folder = RECIPES[name], tmp_path_factory.mktemp("good")
        WRITERS[name](folder)
        pairs = recipe.stream(str(folder), recipe.files)
        found[name] = [row for _, row in pairs if not isinstance(row, BadRow)][:4]
    return found


def places(value, path=()):
    """The path of every field and item in a row."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def planted(row, path, value):
    """The row with `value` in one place."""
    if not path:
        return value
    row = copy.deepcopy(row)
    inner = row
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return row


def taken(recipe, row, folder):
    """Whether a row becomes a conversation; if so, it can be read back."""
    shelf = PictureShelf(folder / "images")
    try:
        messages, _ = tidy(recipe.read(row, "f:1"), "f:1")
        draw_digest(messages)
        row = convert(messages, "f:1", recipe.name, folder, shelf)
    except BadRow as error:
        return explained(error)
    again = json.loads(json.dumps(row, ensure_ascii=False).encode())
    parse_conversation(again, "f:1", folder)
    return True


def explained(error):
    assert error.reason
    assert error.source == "f:1"
    return False


@pytest.mark.parametrize("name", DIFFERENT)
@given(data=st.data())
@FIXED
def test_any_value_in_any_field(name, good_rows, data):
    row = data.draw(st.sampled_from(good_rows[name]))
    path = data.draw(st.sampled_from(list(places(row))))
    with tempfile.TemporaryDirectory() as folder:
        taken(RECIPES[name], planted(row, path, data.draw(VALUES)), Path(folder))


@pytest.mark.parametrize("name", DIFFERENT)
@given(value=VALUES)
@FIXED
def test_any_value_for_a_row(name, value):
    with tempfile.TemporaryDirectory() as folder:
        taken(RECIPES[name], value, Path(folder))


LINES = st.lists(
    VALUES | st.fixed_dictionaries({"conversations": st.lists(st.fixed_dictionaries({"from": WORDS, "value": TEXT}))}),
    max_size=8,
)


@pytest.mark.slow
@given(values=LINES, junk=st.binary(max_size=30), as_array=st.booleans(), total=st.none() | st.integers(1, 4))
@FIXED
def test_a_whole_run_loses_nothing(values, junk, as_array, total):
    """One good row among anything at all: read == kept + dropped, in memory, in recipe.json and in the files."""
    good = {"conversations": [{"from": "human", "value": "A good question?"}, {"from": "gpt", "value": "A good answer."}]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "rows.json"
        if as_array:
            source.write_bytes(json.dumps([good, *values]).encode())  # a NaN ends an array early
        else:
            source.write_bytes(b"\n".join(json.dumps(value).encode() for value in [good, *values]) + b"\n" + junk)
        mix = make_mix("format-sharegpt", [str(source)], total)
        summary = build(mix, folder / "out", BuildOptions(workers=1, held_out=0.3))
        counts = summary["counts"]
        assert counts["read"] == len(list(rows(source)))
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
        lines = {file: (folder / f"out/{file}.jsonl").read_bytes().count(b"\n") for file in ("train", "held_out", "rejected")}
        assert (lines["train"], lines["held_out"]) == (counts["train"], counts["held_out"])
        assert lines["rejected"] == sum(counts["dropped"].values()) - counts["dropped"].get("not drawn", 0)
        kept = [row for side in ("train", "held_out") for row in read_conversations(folder / f"out/{side}.jsonl")]
        assert not [row for row in kept if isinstance(row, BadRow)]


COCO = st.fixed_dictionaries(
    {}, optional={"images": st.lists(VALUES, max_size=4) | VALUES, "annotations": st.lists(VALUES, max_size=4) | VALUES}
)


@given(tables=COCO | VALUES)
@FIXED
def test_any_tables_of_captions(tables):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "captions_train2017.json"
        source.write_text(json.dumps(tables))
        for _, row in RECIPES["coco-captions"].stream(str(source), ()):
            if not isinstance(row, BadRow):
                taken(RECIPES["coco-captions"], row, Path(folder))
