"""What is asked: rows, samples, seeds, and questions that want long answers."""

import pytest
from own_chats import mixed_rows, turns, write

from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dataset import DialogueDataset
from data_recipes.regenerate.dialogue import text_of
from data_recipes.regenerate.long_answers import ask_for_long_answers
from vlm_eagle.data.conversation_rows import parse_conversation
from vlm_eagle.errors import UserError


def config(data, **more):
    return RegenerateConfig(**{"data": [str(data)], "out": "out", "target": "demo", **more})


def asks(tmp_path, rows, **more):
    return DialogueDataset(config(write(tmp_path / "data.jsonl", rows), **more))


def questions(dialogue):
    return [text_of(m) for m in dialogue.asked.messages if m.role == "user"]


def test_every_sample_of_every_row_has_its_own_seed(tmp_path):
    all_ = asks(tmp_path, mixed_rows(tmp_path, 20), samples=3, temperature=1.0)
    assert len(all_) == 60
    assert list(all_)[:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    seeds = [all_[key].seed for key in all_]
    assert len(set(seeds)) == 60
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds == [all_[key].seed for key in all_]
    other = asks(tmp_path, mixed_rows(tmp_path, 20), samples=3, temperature=1.0, seed=1)
    assert not set(seeds) & {other[key].seed for key in other}


def test_bad_rows_are_over_before_they_begin(tmp_path):
    all_ = asks(tmp_path, ["{", {"messages": []}, {"id": "ok", "messages": turns("hi")}])
    first, second, third = (all_[key] for key in all_)
    assert (first.is_over, first.result.reason) == (True, "bad JSON")
    assert (second.result.reason, third.is_over) == ("no messages", False)
    assert first.result.id == f"{tmp_path}/data.jsonl:1"


def test_rows_of_other_forms_are_asked_and_keep_only_what_is_the_users(tmp_path):
    (tmp_path / "a.png").touch()
    rows = [
        {"conversations": [{"from": "human", "value": "<image>Colour?"}, {"from": "gpt", "value": "Red."}], "images": ["a.png"],
         "source": "web"},
        {"instruction": "Say it.", "input": "", "output": "It.", "category": "talk"},
    ]  # fmt: skip
    all_ = asks(tmp_path, rows)
    assert [questions(all_[key]) for key in all_] == [["Colour?"], ["Say it."]]
    assert all_[0, 0].asked.has_media
    assert [all_.extras(key) for key in all_] == [{"source": "web"}, {"category": "talk"}]


def test_calls_of_tools_are_not_asked_again(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]}
    talk = [
        {"role": "user", "content": "hi"},
        call,
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ]
    all_ = asks(tmp_path, [{"messages": talk}])
    assert (all_[0, 0].is_over, all_[0, 0].result.reason) == (True, "tool calls")


def test_the_limit_takes_the_first_rows(tmp_path):
    assert list(asks(tmp_path, mixed_rows(tmp_path), limit=2)) == [(0, 0), (1, 0)]


def test_the_share_of_long_answers(tmp_path):
    rows = mixed_rows(tmp_path, 300)
    long = [asks(tmp_path, rows, long_answers=share) for share in (0.0, 0.5, 1.0)]
    counts = [sum(all_[key].is_long for key in all_) for all_ in long]
    assert counts[0] == 0
    assert 30 <= counts[1] <= 70  # a hundred rows have images
    assert counts[2] == 100
    chosen = [[all_[key].is_long for key in all_] for all_ in long]
    assert all(half <= whole for half, whole in zip(chosen[1], chosen[2], strict=True))
    assert len({questions(long[2][key])[0].partition("0 ")[2] for key in list(long[2])[::30]}) > 1  # several wordings


@pytest.mark.parametrize(
    ("question", "rest"),
    [
        ("What is it?", "What is it?"),
        ("What is it?\nAnswer the question using a single word or phrase.", "What is it?"),
        ("Which?\nA. a\nB. b\nAnswer with the option's letter from the given choices directly.", "Which?\nA. a\nB. b"),
        ("Provide a one-sentence caption for the provided image.", ""),
        ("What is it? Please answer briefly.", "What is it?"),
        ("How short is a short answer in one word games?", "How short is a short answer in one word games?"),
    ],
)
def test_wishes_for_short_answers_go(tmp_path, question, rest):
    row = {"messages": turns(question, "a cat", "And now?", image="a.png")}
    asked = ask_for_long_answers(parse_conversation(row, "here", tmp_path), 0)
    first, second = (text_of(m) for m in asked.messages if m.role == "user")
    wish = "Explain your answer in detail, with everything in the image that supports it."
    assert first == f"{rest} {wish}".strip()
    assert second == "And now?"  # shows nothing of its own


@pytest.mark.parametrize(("question", "rest"), [("图里有什么?", "图里有什么?"), ("这是什么?请简短回答。", "这是什么?")])
def test_chinese_is_asked_in_chinese(tmp_path, question, rest):
    row = {"messages": turns(question, image="a.png")}
    asked = ask_for_long_answers(parse_conversation(row, "here", tmp_path), 0)
    assert text_of(asked.messages[0]) == f"{rest}请结合图片内容详细说明。"


def test_each_question_has_its_own_wording(tmp_path):
    row = {"messages": [*turns("What?", "a cat", image="a.png"), *turns("What?", image="b.png")]}
    first, _, second = ask_for_long_answers(parse_conversation(row, "here", tmp_path), 0).messages
    assert text_of(first) != text_of(second)


def test_text_and_wordless_questions(tmp_path):
    text = parse_conversation({"messages": turns("What is 2 + 2?")}, "here", tmp_path)
    assert ask_for_long_answers(text, 0) is text
    wordless = {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}
    assert "detail" in text_of(ask_for_long_answers(parse_conversation(wordless, "here", tmp_path), 0).messages[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "No answer source"),
        ({"server": ["http://localhost:1"], "draft": "d"}, "brings its own draft"),
        ({"samples": 2}, "all be the same"),
        ({"long_answers": 1.5}, "share from 0 to 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be greater than 0"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        config("data.jsonl", **options)
