"""Choosing a draft vocabulary, against trying every size; and the file that training takes."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import make_draft
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes import vocabulary_table
from data_recipes.vocabulary import as_tensors, choose_vocabulary, compare, size_for, special_tokens, step_bytes, tokens_of_text
from vlm_eagle.commands import vocabulary
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.draft.vocab import DraftVocab, coverage, ranked, read_vocabulary, write_vocabulary
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import read_config

V = 30
counted = st.lists(st.integers(0, 9), min_size=V, max_size=V).map(torch.tensor)


@pytest.mark.slow
@settings(max_examples=80)
@given(
    english=counted, german=counted, forced=st.lists(st.integers(0, V - 1), max_size=6), multiple=st.sampled_from([1, 4, 64]),
    overall=st.sampled_from([0.0, 0.5, 0.9, 1.0]), every=st.sampled_from([0.0, 0.5, 0.97, 1.0]),
)  # fmt: skip
def test_the_smallest_size_that_covers_enough(english, german, forced, multiple, overall, every):
    counts = {"en": english, "de": german}
    found = size_for(counts, forced, overall, every, multiple)

    def enough(size: int) -> bool:
        if size < max(len(set(forced)), 1):
            return False
        vocab = choose_vocabulary(counts, size, forced)
        total = coverage(english + german, vocab) >= overall
        return total and all(coverage(one, vocab) >= every for one in counts.values())

    least = next(size for size in range(1, V + 1) if enough(size))
    assert found == min(-(-least // multiple) * multiple, V)


def test_forced_tokens_come_first_then_the_frequent():
    counts = torch.tensor([0, 5, 0, 9, 1, 5, 0])
    assert ranked(counts).tolist() == [3, 1, 5, 4, 0, 2, 6]
    assert ranked(counts, [6, 4]).tolist() == [4, 6, 3, 1, 5, 0, 2]
    assert DraftVocab.from_counts(counts, 3, [6, 6]).target_ids.tolist() == [1, 3, 6]
    assert DraftVocab.from_counts(counts, 2, [6, 2]).target_ids.tolist() == [2, 6]
    with pytest.raises(UserError, match="cannot hold the 3"):
        DraftVocab.from_counts(counts, 2, [6, 2, 0])
    for outside in (-1, 7):
        with pytest.raises(UserError, match="cannot be forced"):
            DraftVocab.from_counts(counts, 3, [outside])


def test_coverage():
    vocab = DraftVocab.from_ids([1, 3], 5)
    assert coverage(torch.tensor([1, 2, 3, 4, 0]), vocab) == pytest.approx(0.6)
    assert coverage(torch.zeros(5, dtype=torch.long), vocab) == 1.0


def test_tokens_of_text_and_special_tokens(processor, tmp_path):
    tokenizer = processor.tokenizer
    (tmp_path / "words.txt").write_text("Zürich\n\n  水壶  \n", encoding="utf-8")
    found = tokens_of_text([tmp_path / "words.txt"], tokenizer)
    for text in ("Zürich", " Zürich", "水壶"):
        assert set(tokenizer.encode(text)) <= set(found)
    assert found == sorted(set(found))
    special = tokenizer.convert_ids_to_tokens(special_tokens(tokenizer))
    assert "<|im_end|>" in special
    assert "<|image_pad|>" not in special
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    for name in ("noise", "none.txt"):
        with pytest.raises(UserError, match="is not text"):
            tokens_of_text([tmp_path / name], tokenizer)


def test_what_a_draft_step_reads(target):
    """Against the tensors of a real draft: everything but fc and the two maps."""
    for size in (100, 400):
        draft = make_draft(target, size)
        read = sum(p.numel() for name, p in draft.named_parameters() if "fc" not in name)
        assert step_bytes(target.model.config, size, "bfloat16") == (draft.lm_head.weight.numel(), 2 * read)
        assert step_bytes(target.model.config, size, "float32")[1] == 4 * read


def test_comparison(target):
    vocab_size = target.config.vocab_size
    english, german = torch.zeros(vocab_size, dtype=torch.long), torch.zeros(vocab_size, dtype=torch.long)
    english[:100], german[100:110] = 7, 1
    counts = as_tensors({"en": english.numpy(), "und": torch.zeros(vocab_size).numpy(), "de": german.numpy()})
    assert set(counts) == {"en", "de"}
    rows = compare(counts, [105, 100, 10**6, 105], [], target.model.config, "bfloat16")
    assert [row.size for row in rows] == [100, 105, vocab_size]
    assert rows[0].by_language == {"en": 1.0, "de": 0.0}
    assert rows[1].by_language == {"en": 1.0, "de": 0.5}
    assert rows[0].overall == pytest.approx(700 / 710)
    assert rows[2].step_cost == 1.0
    assert rows[0].step_cost < rows[1].step_cost < 1.0
    (forced,) = compare(counts, [100], list(range(100, 110)), target.model.config, "bfloat16")
    assert forced.by_language == {"en": pytest.approx(0.9), "de": 1.0}


def test_the_file_keeps_the_vocabulary(tmp_path):
    vocab = DraftVocab.from_ids([9, 2, 5], 20)
    write_vocabulary(tmp_path / "v.json", vocab, target="mine")
    read = read_vocabulary(tmp_path / "v.json", 20)
    assert torch.equal(read.d2t, vocab.d2t)
    assert torch.equal(read.t2d, vocab.t2d)
    assert json.loads((tmp_path / "v.json").read_text())["ids"] == [2, 5, 9]


GOOD = {"format": "vlm_eagle.draft_vocabulary/1", "vocab_size": 20, "ids": [1, 2]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected"), (GOOD | {"format": "other"}, "expected"), (GOOD | {"ids": "12"}, "expected"),
        (GOOD | {"ids": [1.0]}, "expected"), (GOOD | {"ids": [True]}, "expected"), (GOOD | {"ids": [10**30]}, "expected"),
        (GOOD | {"vocab_size": 21}, "for a target of 21 tokens"), (GOOD | {"ids": []}, "a set of token ids"),
        (GOOD | {"ids": [1, 1]}, "a set of token ids"), (GOOD | {"ids": [20]}, "a set of token ids"),
        (GOOD | {"ids": [-1]}, "a set of token ids"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, row, message):
    (tmp_path / "v.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match=message):
        read_vocabulary(tmp_path / "v.json", 20)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_no_json_is_refused(tmp_path, content):
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(UserError, match="not a draft vocabulary"):
        read_vocabulary(tmp_path / "v.json", 20)
    with pytest.raises(UserError, match="not a draft vocabulary"):
        read_vocabulary(tmp_path / "none.json", 20)


@pytest.fixture
def config(tmp_path):
    tasks = ("describe", "arithmetic", "chinese")
    write_jsonl(tmp_path / "rows.jsonl", [mix.sample(task, i) for i in range(4) for task in tasks])
    return vocabulary.Config(
        data=[str(tmp_path / "rows.jsonl")], cache=str(tmp_path / "cache"), workers=0, out=str(tmp_path / "v.json"),
        sizes=[64, 128], size=96, multiple=8,
    )  # fmt: skip


def test_the_command_writes_what_it_says(config, tmp_path, capsys):
    vocab_size = read_config("demo").text_config.vocab_size
    (tmp_path / "words.txt").write_text("水壶")
    vocabulary.main(replace(config, force_ids=[1279, 1278], force_text=[str(tmp_path / "words.txt")]))
    assert "Draft vocabularies" in capsys.readouterr().out
    chosen = read_vocabulary(tmp_path / "v.json", vocab_size)
    assert len(chosen.d2t) == 96
    assert chosen.t2d[1278:].all()
    row = json.loads((tmp_path / "v.json").read_text())
    assert [one["size"] for one in row["comparison"]] == [64, 96, 128]
    assert row["forced"] > 4
    vocabulary.main(replace(config, size=None, every_language=0.95))
    least = min(json.loads((tmp_path / "v.json").read_text())["comparison"][1]["by_language"].values())
    chosen = read_vocabulary(tmp_path / "v.json", vocab_size)
    assert least >= 0.95
    assert len(chosen.d2t) % 8 == 0


def test_what_the_table_leaves_out_is_said(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vocabulary_table, "LANGUAGES", 1)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("{\n")
    vocabulary.main(replace(config, sizes=[1, 128]))
    printed = " ".join(capsys.readouterr().out.split())
    assert "Left out: 1. " in printed
    assert "Dropped 1 of 13 rows: bad JSON (1)" in printed
    assert "rarer languages, which --every-language counts too: " in printed


def test_settings_that_contradict_each_other(config):
    for options in (
        {"coverage": 0.9}, {"size": None, "coverage": 1.5}, {"size": None, "every_language": 0.0}, {"size": None}, {"size": 0},
        {"multiple": 0},
    ):  # fmt: skip
        with pytest.raises(UserError):
            replace(config, **options)
