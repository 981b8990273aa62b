"""The real command, killed again and again: nothing is lost, nothing is doubled, nothing finished is asked again."""

import json
import random
import time

import pytest
from command import Command
from fake_chat import FakeChat, HeldBack, serving
from own_chats import mixed_rows, read, write
from waiting import wait_for

pytestmark = pytest.mark.multi_process

ROWS = 60


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data" / "chats.jsonl", mixed_rows(tmp_path / "data", ROWS))


def words(data, out, url, *more):
    return ["--data", data, "--out", out, "--server", url, "--concurrency", 4, "--backoff", 0.05, "--tries", 9, *more]


def lines(file):
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def test_killed_again_and_again(tmp_path, data):
    chance, out, journal = random.Random(3), tmp_path / "out", tmp_path / "out" / "journal.jsonl"
    fake, undisturbed = FakeChat(faults=["", "500", "", "gone", "garbage", ""] * 4), FakeChat()
    with serving(fake, undisturbed) as (url, whole_url):
        done = []
        for target in (1, 20, 40):
            fake.answer = HeldBack(target + 15)  # so that it cannot end before it is killed
            command = Command(words(data, out, url), tmp_path / "log.txt")
            wait_for(f"{target} lines", lambda target=target: lines(journal) > target, command)
            time.sleep(chance.random() * 0.03)  # any moment will do
            command.kill()
            fake.answer.release()
            done.append(lines(journal) - 1)
            journal.open("ab").write(b'{"key": [59, 0], "id": "torn')  # as a crash of the whole machine leaves it
        assert Command(words(data, out, url), tmp_path / "log.txt").wait() == 0, (tmp_path / "log.txt").read_text()
        assert Command(words(data, tmp_path / "whole", whole_url), tmp_path / "log.txt").wait() == 0
    assert all(before < after for before, after in zip([0, *done], done, strict=False))
    assert (out / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()
    assert [row["id"] for row in read(out / "train.jsonl")] == [f"row-{i}" for i in range(ROWS)]
    keys = [tuple(line["key"]) for line in read(journal)[1:]]
    assert len(keys) == len(set(keys)) == ROWS
    turns = sum(len(row["messages"]) // 2 for row in read(out / "train.jsonl"))
    assert len(fake.requests) <= turns + 16 + 3 * (4 * 3)  # faults, and at each kill four conversations of up to three turns
    assert f"{done[-1]} of {ROWS} are in" in (tmp_path / "log.txt").read_text().replace("\n", "")
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


def test_ctrl_c_waits_for_nobody(tmp_path, data):
    """Six rows are answered; the command ends while the servers still owe an answer to each of its four threads."""
    journal, answers = tmp_path / "out" / "journal.jsonl", HeldBack(6)
    with serving(FakeChat(answer=answers)) as (url,):
        command = Command(words(data, tmp_path / "out", url), tmp_path / "log.txt")
        wait_for("four questions", lambda: lines(journal) == 7 and len(answers.waiting) == 4, command)
        assert command.interrupt() == 130
        assert len(answers.waiting) == 4, "what was asked again had been given up by a timeout"
        answers.release()
    log = (tmp_path / "log.txt").read_text()
    assert "Interrupted." in log
    assert f"{lines(journal) - 1} of {ROWS} are kept" in log.replace("\n", "")
    assert "Traceback" not in log
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_second_process_is_refused(tmp_path, data):
    answers = HeldBack(10)
    with serving(FakeChat(answer=answers)) as (url,):
        first = Command(words(data, tmp_path / "out", url), tmp_path / "first.txt")
        wait_for("a line", lambda: lines(tmp_path / "out" / "journal.jsonl") > 2, first)
        assert Command(words(data, tmp_path / "out", url), tmp_path / "second.txt").wait() == 2
        answers.release()
        assert first.wait() == 0
    assert "another process" in (tmp_path / "second.txt").read_text()
    assert len(read(tmp_path / "out" / "train.jsonl")) == ROWS


def test_errors_and_help_for_people(tmp_path, data):
    log = tmp_path / "log.txt"
    assert Command(["--help"], log).wait() == 0
    said = log.read_text()
    assert "Keeps the prompts" in said
    assert all(f"--{option}" in said for option in ("server", "thinking", "long_answers", "retry_failed"))
    for argv, message in (
        (["--out", "x"], "data"),
        (["--data", data, "--out", "x"], "No answer source"),
        (["--dta", "x"], "Did you"),
    ):
        log.unlink()
        assert Command(argv, log).wait() == 2
        assert message in log.read_text()
        assert "Traceback" not in log.read_text()
