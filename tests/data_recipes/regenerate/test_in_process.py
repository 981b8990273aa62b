"""Answers from our own loop are those of the target asked alone, turn by turn, whatever batch they came in, draft or not."""

import json
from types import SimpleNamespace

import pytest
from conftest import make_imitating_draft
from own_chats import picture, read, spoken, turns, write

from data_recipes.regenerate import in_process
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Reply
from data_recipes.regenerate.in_process import InProcess
from data_recipes.regenerate.run import regenerate
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Message, TextPart
from vlm_eagle.data.conversation_rows import parse_conversation
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import load_target

NEW = 8


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """Text and images, one to three turns."""
    file = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    samples = [("arithmetic", 1), ("vqa", 3), ("chinese", 2), ("describe", 1), ("multi-image", 1)]
    write_jsonl(file, [mix.sample(task, 5, count) for task, count in samples])
    return file


@pytest.fixture(scope="module")
def demo():
    return load_target("demo", dtype="float32")


def run(chats, out, **more):
    options = {"target": "demo", "max_new_tokens": NEW, "truncated_answers": "keep", "batch_size": 3, **more}
    code = regenerate(RegenerateConfig(data=[str(chats)], out=str(out), **options))
    return code, read(out / "train.jsonl")


def asked_alone(target, chats, seeds=None, **options):
    """The reference: one prompt at a time, each answer put into the history by hand. Token ids by row and turn."""
    collator, answers = VisionCollator(target.processor, for_generation=True, strict=True), []
    for number, row in enumerate(read(chats)):
        conversation = parse_conversation(row, "here", chats.parent)
        history, answers_of_row = [], []
        for message in conversation.messages:
            if message.role == "assistant":
                continue
            history.append(message)
            asked = type(conversation)(conversation.id, tuple(history))
            more = {"seed": seeds[number] + len(answers_of_row)} if seeds else {}
            (answer,) = generate(target, collator([asked]), settings=Settings(max_new_tokens=NEW, **more, **options))
            tokens = [token for token in answer.tokens if token not in target.eos_ids]
            answers_of_row.append(tokens)
            history.append(Message("assistant", (TextPart(target.tokenizer.decode(tokens, skip_special_tokens=True)),)))
        answers.append(answers_of_row)
    return answers


def tokens_of(out):
    lines = sorted(read(out / "journal.jsonl")[1:], key=lambda line: line["key"])
    return [[reply["tokens"] for reply in line["replies"]] for line in lines]


@pytest.mark.slow
def test_greedy_answers_are_the_targets_own(demo, chats, tmp_path):
    code, rows = run(chats, tmp_path / "out")
    expected = asked_alone(demo, chats)
    assert code == 0
    assert tokens_of(tmp_path / "out") == expected
    assert [row["id"] for row in rows] == [row["id"] for row in read(chats)]
    said = [[text for role, text in spoken(row) if role == "assistant"] for row in rows]
    assert said == [[demo.tokenizer.decode(tokens) for tokens in answers] for answers in expected]
    assert rows[0]["regenerated"]["target"] == "demo"
    assert rows[0]["regenerated"]["weights"] == demo.fingerprint


def test_more_rows_than_fit_into_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr(in_process, "_WINDOW", 2)
    rows = [{"id": f"{i}", "messages": turns(f"What is 1 + {i}?", "x" * (i % 4 + 1))} for i in range(9)]
    rows[2:2] = ["no json"] * 5  # more than a window of them
    rows.append({"id": "two", "messages": turns("What is 1 + 1?", "a", "What is 2 + 2?")})
    _, kept = run(write(tmp_path / "d.jsonl", rows), tmp_path / "out", batch_size=2, max_new_tokens=2)
    assert [row["id"] for row in kept] == [*map(str, range(9)), "two"]
    assert len(kept[-1]["messages"]) == 4


@pytest.mark.slow
def test_a_draft_changes_no_token_and_needs_fewer_forwards(demo, chats, tmp_path, capsys):
    make_imitating_draft(demo).save_pretrained(tmp_path / "draft")
    options = {"draft": str(tmp_path / "draft"), "draft_tokens": 6, "topk": 2, "num_steps": 3}
    run(chats, tmp_path / "drafted", **options)
    assert tokens_of(tmp_path / "drafted") == asked_alone(demo, chats)
    this_run = json.loads((tmp_path / "drafted" / "regenerate.json").read_text())["this_run"]
    assert this_run["acceptance_length"] > 1
    assert this_run["shape"].startswith("tree (steps 3, topk 2) of 6 draft tokens")
    assert "acceptance length" in capsys.readouterr().out
    run(chats, tmp_path / "drafted", **options)  # nothing is left to answer, so nothing was accepted or refused
    assert json.loads((tmp_path / "drafted" / "regenerate.json").read_text())["this_run"]["acceptance_length"] is None
    assert "acceptance length" not in capsys.readouterr().out


@pytest.mark.slow
def test_samples_depend_on_their_seed_alone(demo, chats, tmp_path):
    options = {"temperature": 0.7, "samples": 2}
    _, rows = run(chats, tmp_path / "threes", **options)
    run(chats, tmp_path / "sevens", batch_size=7, **options)
    assert tokens_of(tmp_path / "threes") == tokens_of(tmp_path / "sevens")
    seeds = [row["regenerated"]["seed"] for row in rows]
    expected = asked_alone(demo, chats, seeds[1::2], sampling=Sampling(0.7))
    assert tokens_of(tmp_path / "threes")[1::2] == expected
    first, second = tokens_of(tmp_path / "threes")[0::2], tokens_of(tmp_path / "threes")[1::2]
    assert first != second


def test_one_bad_prompt_costs_the_batch_nothing(tmp_path):
    picture(tmp_path / "ok.png")
    rows = [{"id": "long", "messages": turns("word " * 9000)}, {"id": "no image", "messages": turns("q", image="gone.png")}]
    rows += [
        "no json",
        {"id": "forged", "messages": turns("<|im_start|>")},
        {"id": "fine", "messages": turns("q", image="ok.png")},
    ]
    code, kept = run(write(tmp_path / "d.jsonl", rows), tmp_path / "out", max_new_tokens=3)
    assert code == 0
    assert [row["id"] for row in kept] == ["fine"]
    failed = {row["id"]: row["reason"] for row in read(tmp_path / "out" / "failed.jsonl")}
    assert failed == {
        "long": "too long", "no image": "image missing", f"{tmp_path}/d.jsonl:3": "bad JSON", "forged": "role marker in text",
    }  # fmt: skip


def test_thinking_reaches_the_template(target):
    def rendered(thinking):
        collator = VisionCollator(target.processor, for_generation=True, thinking=thinking)
        collator.chat_template = "{{ enable_thinking if enable_thinking is defined else 'its own' }}"
        return collator.render(parse_conversation({"messages": turns("q")}, "here", None))

    assert [rendered(value) for value in (True, False, None)] == ["True", "False", "its own"]
    config = RegenerateConfig(data=["d"], out="o", target="demo", thinking="on")
    assert config.enable_thinking is True


def test_what_is_wrong_is_said_before_anything_is_written(chats, tmp_path):
    with pytest.raises(UserError, match="leaves no room for a prompt"):
        run(chats, tmp_path / "out", max_new_tokens=100_000)
    with pytest.raises(UserError, match="does not exist"):
        run(chats, tmp_path / "out", target=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no such data file"):
        run(tmp_path / "nothing.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("ended", "tokens"), [(True, [1, 2]), (False, [1, 7])])
def test_what_a_reply_says_of_an_answer(ended, tokens):
    """Its end token is counted and not kept; special tokens inside are noted."""
    source = object.__new__(InProcess)
    source.special = frozenset({7, 9})
    answer = SimpleNamespace(text="a", tokens=tokens, ended=ended, generation=SimpleNamespace(tokens=[*tokens, 9]))
    assert source._reply(answer) == Reply("a", 3, cut=not ended, tokens=tokens, special=7 in tokens)
