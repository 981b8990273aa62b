"""Every recipe, on a small local copy of its source in the true schema, offline."""

import json

import pytest
from samples import WRITERS, answer, chinese, question

from data_recipes.build import BuildOptions, build
from data_recipes.coco import read_coco
from data_recipes.mix import make_mix
from data_recipes.readers import read_llava, read_openai, read_sharegpt
from data_recipes.recipe import RECIPES
from vlm_eagle.data.conversation import BadRow, ImagePart, TextPart
from vlm_eagle.data.conversation_rows import read_conversations

ALONE = BuildOptions(workers=1)


def make(tmp_path, name, settings=ALONE, **more):
    wanted = WRITERS[name](tmp_path / "source")
    summary = build(make_mix(name, [str(tmp_path / "source")], **more), tmp_path / "out", settings)
    return wanted, summary


def conversations(out):
    found = [*read_conversations(out / "train.jsonl"), *read_conversations(out / "held_out.jsonl")]
    assert not [row for row in found if isinstance(row, BadRow)]
    return found


def rejected(out):
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


def test_every_recipe_has_a_sample_and_every_sample_a_recipe():
    assert set(WRITERS) == set(RECIPES)


@pytest.mark.parametrize("name", WRITERS)
def test_a_recipe_reads_its_source(tmp_path, name):
    wanted, summary = make(tmp_path, name)
    counts = summary["counts"]
    assert counts["kept"] == counts["train"] + counts["held_out"] == wanted
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    assert sum(counts["dropped"].values()) == len(rejected(tmp_path / "out"))
    found = conversations(tmp_path / "out")
    assert len(found) == wanted
    assert all(c.messages[-1].role == "assistant" for c in found)
    files = {part.image for c in found for m in c.messages for part in m.content if isinstance(part, ImagePart)}
    assert {file for file in (tmp_path / "out").rglob("images/*/*") if file.is_file()} == files
    assert all(file.is_file() for file in files)
    assert bool(files) == (RECIPES[name].modality == "pictures")
    assert json.loads((tmp_path / "out/recipe.json").read_text())["counts"] == counts
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name != "images") == [
        "held_out.jsonl", "recipe.json", "rejected.jsonl", "train.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_states_where_it_comes_from(recipe):
    assert all((recipe.about, recipe.licence, recipe.size, recipe.schema))
    assert recipe.origin or recipe.name.startswith(("format-", "coco-"))


def texts(conversation):
    return [(m.role, [p.text if isinstance(p, TextPart) else "[picture]" for p in m.content]) for m in conversation.messages]


def by_source(out):
    lines = [*(out / "train.jsonl").open(), *(out / "held_out.jsonl").open()]
    sources = {json.loads(line)["id"]: json.loads(line)["source"].rsplit("/", 1)[-1] for line in lines}
    return {sources[c.id]: texts(c) for c in conversations(out)}


def test_sharegpt_pieces(tmp_path):
    _, summary = make(tmp_path, "sharegpt")
    found = by_source(tmp_path / "out")
    file = "ShareGPT_V4.3_unfiltered_cleaned_split.json"
    assert found[f"{file}:1"] == [("user", [question(0)]), ("assistant", [answer(0)])]
    assert found[f"{file}:7"] == [("user", [question(900)]), ("assistant", [answer(900)])]  # its opening answer is gone
    assert summary["counts"]["dropped"] == {"no answered question": 1, "HTML answer": 1}
    assert summary["counts"]["changed"] == {"opening answer dropped": 1}
    assert summary["languages"] == {"en": 7}


def test_pairs_of_both_languages(tmp_path):
    _, summary = make(tmp_path, "sharegpt-zh-en")
    assert by_source(tmp_path / "out")["common_zh_70k.jsonl:1"] == [("user", [chinese(0)[0]]), ("assistant", [chinese(0)[1]])]
    assert summary["languages"] == {"zh": 5, "en": 5}
    assert summary["counts"]["changed"] == {"last question dropped, it has no answer": 1}


def test_ultrachat_takes_its_split_only(tmp_path):
    make(tmp_path, "ultrachat")
    assert all(source.startswith("train_sft") for source in by_source(tmp_path / "out"))


def test_a_system_prompt_stays(tmp_path):
    make(tmp_path, "perfectblend")
    first = by_source(tmp_path / "out")["train-00000-of-00006.parquet:1"]
    assert first[0] == ("system", ["You are a helpful assistant."])


def test_pictures_out_of_zip_files(tmp_path):
    _, summary = make(tmp_path, "allava-caption")
    found = by_source(tmp_path / "out")["ALLaVA-Caption-LAION-4V.json:1"]
    assert found == [("user", ["[picture]", question(400)]), ("assistant", [answer(4000)])]
    assert summary["counts"]["dropped"] == {"image missing": 1}
    assert summary["counts"]["pictures"] == 4


def test_the_place_of_the_picture_is_kept(tmp_path):
    make(tmp_path, "llava-pretrain")
    found = by_source(tmp_path / "out")
    assert found["blip_laion_cc_sbu_558k.json:1"][0] == ("user", ["Give a brief description of the image.", "[picture]"])
    assert found["blip_laion_cc_sbu_558k.json:2"][0] == ("user", ["[picture]", "Provide a one-sentence caption."])


def test_pictures_inside_rows(tmp_path):
    make(tmp_path, "llava-onevision")
    found = by_source(tmp_path / "out")
    assert found["train-00000-of-00001.parquet:5"][0] == ("user", [question(6040)])
    assert found["train-00000-of-00001.parquet:6"][0] == ("user", ["[picture]", question(6050)])


def test_coco_joins_its_tables(tmp_path):
    _, summary = make(tmp_path, "coco-captions")
    found = by_source(tmp_path / "out")
    assert found["captions_train2017.json:images:2"][1] == (
        "assistant",
        ["A photo of glass near volcanoes number 3."],
    )  # the longest of five
    assert summary["counts"]["dropped"] == {"no caption": 1, "image missing": 1}


def test_the_longest_caption_is_the_answer():
    _, answer = read_coco({"image": "a.png", "captions": ["zebra", "a zebra on a field", "the zoo"]}, "f:1")
    assert answer["content"] == [{"type": "text", "text": "a zebra on a field"}]


def test_messages_with_parts(tmp_path):
    _, summary = make(tmp_path, "format-messages")
    found = by_source(tmp_path / "out")
    assert found["mine.jsonl:2"][0] == ("user", ["[picture]", question(2)])
    assert found["mine.jsonl:3"][0] == ("user", [question(3), "[picture]"])
    assert summary["counts"]["dropped"] == {"tool call": 1}


def test_several_pictures_in_their_places(tmp_path):
    make(tmp_path, "format-llava")
    assert by_source(tmp_path / "out")["mine.json:1"][0] == ("user", ["First", "[picture]", "then", "[picture]", question(7)])


@pytest.mark.parametrize(("places", "pictures"), [(1, 2), (2, 1), (1, 0)])
def test_pictures_and_places_must_be_as_many(places, pictures):
    said = [{"from": "human", "value": "<image>" * places + "What?"}, {"from": "gpt", "value": "That."}]
    with pytest.raises(BadRow, match=f"pictures and places differ: {pictures} pictures, {places} times <image>"):
        read_llava({"image": ["a.png"] * pictures, "conversations": said}, "f:1")


def test_what_is_written_is_a_source_again(tmp_path):
    """Our own files are messages with pictures beside: the same conversations come out, and the same sides of the split."""
    settings = BuildOptions(workers=1, held_out=0.4)
    make(tmp_path, "llava-onevision", settings)
    for side in ("train", "held_out"):
        mix = make_mix("format-messages", [str(tmp_path / f"out/{side}.jsonl")])
        summary = build(mix, tmp_path / f"again-{side}", settings)
        assert summary["counts"][side] == summary["counts"]["read"] > 0
        assert hashes(tmp_path / f"out/{side}.jsonl") == hashes(tmp_path / f"again-{side}/{side}.jsonl")


def hashes(file):
    return {json.loads(line)["id"].rsplit("-", 1)[1] for line in file.open()}


ASKED, SAID = {"role": "user", "content": "<image>What colour?"}, {"role": "assistant", "content": "Red."}


def test_pictures_beside_openais_messages():
    row = {"messages": [ASKED, SAID], "images": [{"bytes": b"x", "path": "a.png"}]}
    picture, text = read_openai(row, "f:1")[0]["content"]
    assert (picture["image"]["path"], text["text"]) == ("a.png", "What colour?")
    plain = {"messages": [{"role": "user", "content": "What is <image>?"}, SAID]}
    assert read_openai(plain, "f:1")[0]["content"][0]["text"] == "What is <image>?"


@pytest.mark.parametrize(
    ("read", "row", "reason"),
    [
        (read_openai, {"messages": [ASKED, SAID], "images": ["a.png", "b.png"]}, "pictures and places differ"),
        (read_openai, {"messages": [ASKED, SAID], "videos": ["a.mp4"]}, "content not read"),
        (read_openai, {"messages": [ASKED, SAID], "tools": [{"name": "f"}]}, "content not read"),
        (read_openai, {"messages": [ASKED, {**SAID, "reasoning_content": "Hm."}]}, "content not read"),
        (read_llava, {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Y"}], "video": "a.mp4"},
         "content not read"),
        (read_sharegpt, {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Y", "tool_calls": [1]}]},
         "content not read"),
        (read_sharegpt, {"conversations": [{"from": "human", "value": "Hi"}], "image": "a.png"}, "has media"),
    ],
)  # fmt: skip
def test_content_that_is_not_read_is_not_lost_in_silence(read, row, reason):
    with pytest.raises(BadRow) as caught:
        read(row, "f:1")
    assert caught.value.reason == reason
