"""The data report: its numbers against samples encoded one by one, and a page that data cannot break out of."""

import base64
import io
import json
import random
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from data_recipes.report.page import render, shown_sample
from data_recipes.report.statistics import _distribution, _reservoir, collect, summarise
from data_recipes.report.tables import show
from vlm_eagle.commands import data_report
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.data.preparation import Preparation
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import write_json
from vlm_eagle.safe_text import visible

TASKS = ("describe", "arithmetic", "multi-image", "chinese", "code", "chinese-image")
HOSTILE = "</mark></script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \u202eevil\u2066 \x1b[31m & \"'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(folder / "rows.jsonl", [mix.sample(task, i, 1 + i % 2) for i in range(3) for task in TASKS])
    rows = [
        "{", json.dumps({"messages": [{"role": "user", "content": "Hello"}]}),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "image", "image": "none.png"}]}, ANSWER]}),
    ]  # fmt: skip
    with (folder / "rows.jsonl").open("a") as file:
        file.writelines(f"{row}\n" for row in rows)
    return folder


ANSWER = {"role": "assistant", "content": "A kettle stands on the stove."}


@pytest.fixture(scope="module")
def collator(processor):
    return VisionCollator(processor)


@pytest.fixture(scope="module")
def dataset(folder):
    return ConversationDataset([folder / "rows.jsonl"])


@pytest.fixture(scope="module")
def found(dataset, collator):
    return collect(Preparation(dataset, collator), 1280, samples=5)


def test_numbers_are_those_of_encoded_samples(dataset, collator, found):
    good = [sample for sample in (dataset[i] for i in range(len(dataset) - 3)) if not isinstance(sample, BadRow)]
    encoded = [collator.encode(sample) for sample in good]
    lengths = [one["input_ids"].shape[1] for one in encoded]
    learned = torch.cat([one["input_ids"][0, 1:][one["loss_mask"][0, :-1]] for one in encoded])
    summary = summarise(found, [100, 5000])
    assert (summary["read"], summary["kept"]) == (21, 18)
    assert summary["dropped"] == {"bad JSON": 1, "nothing to learn": 1, "image missing": 1}
    assert summary["tokens"] == sum(lengths)
    assert summary["supervised"] == len(learned)
    assert summary["supervised_share"] == pytest.approx(len(learned) / sum(lengths), abs=1e-5)
    assert summary["image_tokens"] == sum(int((one["input_ids"] == collator.media_ids[0]).sum()) for one in encoded) > 0
    assert summary["answers"] == sum(message.role == "assistant" for sample in good for message in sample.messages)
    assert summary["media"]["samples"] == sum(sample.has_media for sample in good) < 18
    assert summary["lengths"]["quantiles"]["max"] == max(lengths)
    assert sum(one["samples"] for one in summary["lengths"]["histogram"]) == 18
    assert np.array_equal(sum(found.counts.values()), torch.bincount(learned, minlength=1280))
    assert {"en", "zh"} <= set(summary["languages"])
    assert sum(one["samples"] for one in summary["languages"].values()) == 18
    assert sum(one["supervised"] for one in summary["languages"].values()) == len(learned)
    small, whole = summary["vocabulary"]
    top = {token for token, _ in sorted(Counter(learned.tolist()).items(), key=lambda item: (-item[1], item[0]))[:100]}
    assert (small["size"], whole["size"]) == (100, 1280)
    assert small["overall"] == pytest.approx(sum(int(t) in top for t in learned.tolist()) / len(learned))
    assert whole["overall"] == 1.0
    assert small["by_language"]["zh"] < small["by_language"]["en"] < 1.0
    assert summary["different_answer_tokens"] == len(set(learned.tolist()))


def test_histogram_and_quantiles():
    values = _distribution([1, 2, 3, 4, 100])
    assert values["quantiles"] == {"min": 1, "p10": 1, "p50": 3, "p90": 100, "p99": 100, "max": 100}
    assert values["mean"] == 22.0
    assert [one["samples"] for one in values["histogram"]] == [4, *[0] * 15, 1]
    assert values["histogram"][-1] == {"from": 96, "below": 102, "samples": 1}
    assert _distribution([])["histogram"] == []


def test_samples_are_drawn_uniformly():
    draw, hits = random.Random(0), Counter()
    for _ in range(2000):
        chosen: list[int] = []
        for row in range(10):
            _reservoir(chosen, row, row + 1, 3, draw)
        hits.update(chosen)
    assert all(abs(hits[row] - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5 for row in range(10))


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: Counter = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.marked: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags must nest"

    def handle_data(self, data):
        self.texts.append(data)
        if "mark" in self.open:
            self.marked.append(data)


def hostile_page(folder, collator, tmp_path) -> tuple[str, Page]:
    user = {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": HOSTILE}]}
    row = {"id": f"\ud800{HOSTILE}", "messages": [user, {"role": "assistant", "content": HOSTILE}]}
    bad = [
        {"messages": [{"role": "user", "content": [{"type": "image", "image": name}]}, ANSWER]}
        for name in ("../<b>evil</b>.png", "[red]markup[/blue].png", "half\udc80.png")
    ]
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (row, *bad)))
    dataset = ConversationDataset([tmp_path / "rows.jsonl"])
    found = collect(Preparation(dataset, collator), 1280, samples=2)
    write_json(tmp_path / "report.json", summarise(found))
    show(summarise(found), Console(file=io.StringIO()))
    text = render(summarise(found), [shown_sample(dataset[row], collator) for row in found.chosen], {"data": HOSTILE})
    text.encode()  # nothing that a file cannot hold
    return text, Page(text)


def test_hostile_data_stays_text(folder, collator, tmp_path):
    text, page = hostile_page(folder, collator, tmp_path)
    assert page.open == []
    assert not {"script", "iframe", "object", "a", "b", "link", "form"} & set(page.tags)
    assert page.tags["img"] == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not [c for c in text if c in "\u202e\u2066\x1b\ud800"]
    shown_text = "".join(page.texts)
    assert shown_text.count("<script>alert(1)</script>") >= 4  # id, data, question, answer
    assert "{{ 7*7 }}" in shown_text
    assert "⟨U+202E⟩evil⟨U+2066⟩" in shown_text
    assert "../<b>evil</b>.png" in shown_text
    answer = "".join(page.marked)
    assert "alert(2)" in answer
    assert answer.endswith("<|im_end|>")
    assert "Hello" not in answer


def test_pictures_are_small_and_inside(folder, collator, tmp_path):
    text, page = hostile_page(folder, collator, tmp_path)
    (url,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    kind, _, data = url.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, picture.size) == ("data:image/webp", (256, 192))
    assert all(value.startswith("data:") for _, name, value in page.attributes if name in ("src", "href"))
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "400 × 300" in "".join(page.texts)


def test_a_picture_that_only_decoding_shows_to_be_broken(collator, folder, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    user = {"role": "user", "content": [{"type": "image", "image": "a.png"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [user, ANSWER]}))
    sample = shown_sample(ConversationDataset([tmp_path / "rows.jsonl"])[0], collator)
    assert sample["pictures"][0]["url"] is None
    assert "image broken" in sample["pictures"][0]["problem"]


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2067", "\u200f", "\u2028", "\ud800", "\ufeff"]
)
def test_control_characters_are_shown(character):
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"
    assert visible("a\n\tb é 水 👩‍🍳") == "a\n\tb é 水 👩‍🍳"


def test_the_command(folder, tmp_path, capsys):
    config = data_report.Config(
        data=[str(folder / "rows.jsonl")], out=str(tmp_path / "out"), cache=str(tmp_path / "cache"), samples=4, workers=0
    )
    data_report.main(config)
    printed = capsys.readouterr().out
    assert "rows read" in printed
    assert "image missing" in printed
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [(one["row"], one["reason"]) for one in dropped] == [
        (18, "bad JSON"), (19, "nothing to learn"), (20, "image missing"),
    ]  # fmt: skip
    assert all(one["source"].endswith(f"rows.jsonl:{one['row'] + 1}") for one in dropped)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["read"] == report["kept"] + sum(report["dropped"].values()) == 21
    assert report["run"]["config"]["samples"] == 4
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert (page.tags["details"], page.tags["dt"], page.tags["h2"]) == (4, 8, 5)
    bars = [one for name in ("lengths", "answer_lengths") for one in report[name]["histogram"] if one["samples"]]
    drawn = [tag for tag, name, value in page.attributes if (name, value) == ("class", "bar")]
    assert drawn == ["span"] * len(bars)
    assert not [text for text in page.texts if "<" in text.replace("<|", "")]  # the template's own tags are tags
    assert not list((tmp_path / "out").glob(".*"))


def test_data_of_which_nothing_can_be_used(tmp_path, collator):
    (tmp_path / "rows.jsonl").write_text("{\n[]\n")
    found = collect(Preparation(ConversationDataset([tmp_path / "rows.jsonl"]), collator), 1280, samples=3)
    summary = summarise(found)
    show(summary, Console(quiet=True))
    assert Page(render(summary, [], {})).open == []
    assert (summary["read"], summary["kept"], summary["tokens"]) == (2, 0, 0)


def test_settings_that_make_no_sense():
    for options in ({"samples": -1}, {"vocab_sizes": []}, {"vocab_sizes": [0]}, {"workers": -1}):
        with pytest.raises(UserError):
            data_report.Config(**options)
