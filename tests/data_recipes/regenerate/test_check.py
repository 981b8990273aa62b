"""scripts/dev/regenerate_check.py notices what it is there to notice."""

import json

import pytest
from own_chats import write

from scripts.dev import regenerate_check as check
from vlm_eagle.data.conversation import Conversation, Message, TextPart, user_message

PROMPTS = [Conversation(f"p{i}", (user_message("q"), Message("assistant", (TextPart("a"),)))) for i in range(3)]


@pytest.fixture
def folder(tmp_path):
    def made(name, ids=(0, 1, 2), tokens=((5, 6), (7,), (8, 9)), turns=2):
        out = tmp_path / name
        rows = [{"id": f"p{i}", "messages": [{}] * turns} for i in ids]
        write(out / "train.jsonl", rows)
        replies = [{"key": [i, 0], "replies": [{"tokens": list(tokens[i])}]} for i in ids]
        write(out / "journal.jsonl", [{"journal": 1}, *replies])
        write(out / "regenerate.json", [{"counts": {}}])
        return out

    return made


def verdict(found):
    return found["missing"], found["doubled"], found["in_order"]


def test_a_whole_run_is_sound(folder):
    assert verdict(check._sound(folder("a"), PROMPTS)) == (0, 0, True)


def test_what_is_missing_doubled_or_out_of_order(folder):
    assert verdict(check._sound(folder("missing", ids=(0, 1)), PROMPTS)) == (1, 0, False)
    assert verdict(check._sound(folder("doubled", ids=(0, 1, 2, 2)), PROMPTS)) == (0, 2, False)
    assert verdict(check._sound(folder("first missing", ids=(1, 2)), PROMPTS)) == (1, 0, False)
    assert verdict(check._sound(folder("order", ids=(1, 0, 2)), PROMPTS))[2] is False
    assert verdict(check._sound(folder("short", turns=1), PROMPTS))[0] == 3


def test_tokens_that_differ(folder):
    there, other = folder("a"), folder("b", tokens=((5, 6), (7,), (8, 1)))
    assert check._compared(there, folder("same"))["conversations_that_differ"] == 0
    assert check._compared(there, other) == {"answers": 3, "tokens": 5, "conversations_that_differ": 1, "rows": [2]}
    assert check._differing({"compared": {"a": check._compared(there, other)}}) == 1


def test_conversations_and_answers_that_only_one_side_has(folder):
    there = folder("a")
    assert check._compared(there, folder("fewer", ids=(0, 2)))["rows"] == [1]
    assert check._compared(folder("less", ids=(0, 2)), there)["rows"] == [1]
    shorter = folder("shorter")
    lines = (shorter / "journal.jsonl").read_text().splitlines()
    write(shorter / "journal.jsonl", [*lines[:-1], json.dumps({"key": [2, 0], "replies": []})])
    assert check._compared(there, shorter)["rows"] == [2]


def test_the_prompts_are_what_the_check_is_for():
    described = check._described([check.conversation(i) for i in range(500)])
    assert described["conversations"] == 500
    assert 160 <= described["with_images"] <= 172
    assert described["several_turns"] >= 200
    assert len({check.conversation(i).id for i in range(500)}) == 500


def test_results_are_json(folder):
    assert json.dumps(check._sound(folder("a"), PROMPTS))
