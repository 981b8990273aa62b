"""Prepared rows against the samples that training really makes, and a cache that cannot be stale."""

import json
import os
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm_eagle.data import preparation
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.data.media import set_pixel_budget
from vlm_eagle.data.preparation import Preparation
from vlm_eagle.data.prepared_cache import PreparedCache, default_folder, identity
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.errors import UserError

TASKS = ("describe", "arithmetic", "multi-image", "chinese", "code")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(folder / "rows.jsonl", [mix.sample(task, i) for i in range(4) for task in TASKS])
    with (folder / "rows.jsonl").open("a") as file:
        file.write("{\n\n")
        file.write(json.dumps({"messages": [{"role": "user", "content": "Hello"}]}) + "\n")
    return folder


@pytest.fixture
def collator(processor):
    return VisionCollator(processor, max_length=200)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK", 5)


def by_encoding(dataset: ConversationDataset, collator: VisionCollator) -> list[tuple]:
    """What `Preparation` says, the long way: every sample encoded, pixels and all."""
    rows = []
    for sample in (dataset[i] for i in range(len(dataset))):
        try:
            if isinstance(sample, BadRow):
                raise sample
            encoded = collator.encode(sample)
        except BadRow as error:
            rows.append((error.reason, 0, 0, 0, {}))
            continue
        ids, mask = encoded["input_ids"][0], encoded["loss_mask"][0]
        learned = Counter(ids[1:][mask[:-1]].tolist())
        media = sum(int((ids == token).sum()) for token in collator.media_ids[:2])
        rows.append((None, len(ids), int(mask.sum()), media, dict(learned)))
    return rows


def prepared(dataset, collator, **options) -> list[tuple]:
    rows = []
    for row in Preparation(dataset, collator, **options):
        learned = dict(zip(row.token_ids.tolist(), row.token_counts.tolist(), strict=True))
        rows.append((row.reason, row.length, row.supervised, row.image_tokens, learned))
    return rows


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_what_training_makes_of_them(folder, collator, small_chunks, workers, tmp_path):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    expected = by_encoding(dataset, collator)
    assert {row[0] for row in expected} == {None, "bad JSON", "nothing to learn"}
    assert any(row[3] for row in expected)
    cache = PreparedCache(tmp_path, collator)
    assert prepared(dataset, collator, workers=workers) == expected
    for _ in range(2):  # written, then read
        assert prepared(dataset, collator, workers=workers, cache=cache) == expected
    summary = Preparation(dataset, collator, cache=cache).summary(2000)
    assert summary.lengths == [row[1] for row in expected]
    assert summary.counts.tolist() == np.sum([np.bincount(list(r[4]), list(r[4].values()), 2000) for r in expected], 0).tolist()
    assert summary.dropped == Counter(row[0] for row in expected if row[0])
    assert int(summary.counts.sum()) == sum(row[2] for row in expected)


def test_truncated_and_too_long_rows(folder, processor):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    for limit in (20, 60, 90):
        collator = VisionCollator(processor, max_length=limit)
        assert prepared(dataset, collator) == by_encoding(dataset, collator)


def test_a_text_only_target(folder, processor):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    for collator in (VisionCollator(processor.tokenizer), VisionCollator(processor, llm_only=True)):
        rows = prepared(dataset, collator)
        assert rows == by_encoding(dataset, collator)
        assert Counter(row[0] for row in rows)["has media"] == 8


def test_strict_names_the_first_bad_row(folder, processor):
    strict = VisionCollator(processor, strict=True)
    with pytest.raises(BadRow, match=r"rows\.jsonl:21: bad JSON"):
        Preparation(ConversationDataset([folder / "rows.jsonl"]), strict).summary(2000)


class Counting:
    """How many chunks were prepared."""

    def __init__(self, monkeypatch):
        self.chunks, plain = 0, preparation._Chunks._prepare

        def count(*arguments):
            self.chunks += 1
            return plain(*arguments)

        monkeypatch.setattr(preparation._Chunks, "_prepare", count)

    def of(self, dataset, collator, tmp_path) -> int:
        """Chunks that this pass had to prepare; what it says is right in any case."""
        before = self.chunks
        assert prepared(dataset, collator, cache=PreparedCache(tmp_path / "cache", collator)) == by_encoding(dataset, collator)
        return self.chunks - before


@pytest.fixture
def work(monkeypatch, small_chunks):
    return Counting(monkeypatch)


def copy_of(folder: Path, to: Path) -> ConversationDataset:
    to.mkdir(exist_ok=True)
    for file in folder.rglob("*.*"):
        (to / file.relative_to(folder)).parent.mkdir(exist_ok=True)
        (to / file.relative_to(folder)).write_bytes(file.read_bytes())
    return ConversationDataset([to / "rows.jsonl"])


@pytest.mark.slow
def test_nothing_is_prepared_twice_and_nothing_is_stale(folder, collator, processor, work, tmp_path):
    dataset = copy_of(folder, tmp_path / "data")
    assert [work.of(dataset, collator, tmp_path) for _ in range(2)] == [5, 0]
    assert work.of(copy_of(folder, tmp_path / "elsewhere"), collator, tmp_path) == 0  # contents count, not names
    picture = next((tmp_path / "data" / "images").iterdir())
    before = picture.stat()
    Image.open(picture).resize((200, 90)).save(picture)
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))  # another size at the same time of change
    assert work.of(dataset, collator, tmp_path) == 1
    picture.unlink()
    assert work.of(dataset, collator, tmp_path) == 1
    picture.write_bytes(b"no picture")
    assert work.of(dataset, collator, tmp_path) == 1
    file = tmp_path / "data" / "rows.jsonl"
    file.write_bytes(file.read_bytes().replace(b"Hello", b"Hullo"))
    assert work.of(ConversationDataset([file]), collator, tmp_path) == 1
    for other in (VisionCollator(processor, max_length=100), VisionCollator(processor.tokenizer, max_length=200)):
        assert work.of(dataset, other, tmp_path) == 5
    small = deepcopy(processor)
    set_pixel_budget(small, max_pixels=8192)
    assert work.of(dataset, VisionCollator(small, max_length=200), tmp_path) == 5
    talks = deepcopy(processor)
    talks.chat_template = processor.chat_template.replace("assistant", "helper")
    words = deepcopy(processor)
    words.tokenizer.add_tokens(["kettle"])
    assert len({identity(VisionCollator(one, max_length=200)) for one in (processor, talks, words, small)}) == 4
    assert identity(VisionCollator(processor, max_length=200)) == identity(collator)
    options = ({"max_length": 201}, {"llm_only": True}, {"for_generation": True}, {"thinking": True}, {"thinking": None})
    assert len({identity(VisionCollator(processor, **{"max_length": 200, **one})) for one in ({}, *options)}) == 6


def test_a_pass_that_was_killed_goes_on(folder, collator, work, tmp_path):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    rows = iter(Preparation(dataset, collator, cache=PreparedCache(tmp_path / "cache", collator)))
    for _ in range(11):
        next(rows)
    done = work.chunks
    assert 0 < done < 5
    assert work.of(dataset, collator, tmp_path) == 5 - done


def test_damaged_files_are_prepared_again(folder, collator, work, tmp_path):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    assert work.of(dataset, collator, tmp_path) == 5
    files = sorted((tmp_path / "cache").rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-10])
    files[1].write_bytes(b"")
    content = bytearray(files[2].read_bytes())
    content[len(content) // 8] ^= 0xFF
    files[2].write_bytes(content)
    pq.write_table(pq.read_table(files[3]).slice(1), files[3])
    assert [work.of(dataset, collator, tmp_path) for _ in range(2)] == [4, 0]


def test_no_byte_can_change_unnoticed(collator, tmp_path):
    cache, draw = PreparedCache(tmp_path, collator), np.random.default_rng(0)
    lists = [draw.integers(0, 2**31, 40, dtype=np.int32) for _ in range(20)]
    columns = {"reason": [None] * 20, "token_ids": lists, "token_counts": lists}
    columns |= {name: draw.integers(0, 2**31, 20) for name in ("length", "supervised", "image_tokens")}
    table = cache.write("k", pa.Table.from_pydict(columns, schema=preparation.SCHEMA))
    file = cache.folder / "k.parquet"
    content = file.read_bytes()
    assert cache.read("k", preparation.SCHEMA, 20).equals(table)
    for at in range(0, len(content), 37):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        found = cache.read("k", preparation.SCHEMA, 20)
        assert found is None or found.equals(table)


def test_several_processes_share_the_work(folder, collator, work, tmp_path):
    dataset = ConversationDataset([folder / "rows.jsonl"])
    cache = PreparedCache(tmp_path / "cache", collator)
    for rank in range(2):
        Preparation(dataset, collator, cache=cache).share(rank, 2)
    assert work.chunks == 5
    assert work.of(dataset, collator, tmp_path) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_that_cannot_be_written(folder, collator, small_chunks, tmp_path, workers):
    cache = PreparedCache(tmp_path, collator)
    cache.folder = tmp_path / "gone"
    with pytest.raises(UserError, match=r"gone cannot store prepared data: .*--data\.cache"):
        prepared(ConversationDataset([folder / "rows.jsonl"]), collator, cache=cache, workers=workers)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot store prepared data"):
        PreparedCache(tmp_path / "file", collator)


def test_the_default_folder_is_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/vlm_eagle/prepared")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache/vlm_eagle/prepared"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "video", "audio"])},
    optional={
        "text": st.text() | json_values,
        "image": st.just("a.png") | json_values,
        "video": st.just(["a.png"]) | json_values,
    },
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | json_values,
        "content": st.text() | st.lists(parts) | json_values,
    }
)
pairs = st.lists(st.text(min_size=1), min_size=2, max_size=4).map(
    lambda texts: [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
)
anything = json_values | st.fixed_dictionaries({"messages": pairs | st.lists(messages, max_size=4) | json_values})


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(anything, min_size=1, max_size=12))
def test_rows_read_are_rows_kept_and_rows_dropped(rows, collator, tmp_path):
    Image.new("RGB", (40, 60)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = ConversationDataset([tmp_path / "rows.jsonl"])
    found = prepared(dataset, collator)
    assert len(found) == len(rows)
    assert [row[0] for row in found] == [row[0] for row in by_encoding(dataset, collator)]
    summary = Preparation(dataset, collator).summary(2000)
    assert sum(summary.dropped.values()) + sum(length > 0 for length in summary.lengths) == len(rows)
    assert summary.counts.dtype == torch.int64
