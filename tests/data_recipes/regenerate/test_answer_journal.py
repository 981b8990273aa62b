"""What is in the journal stays there, whatever happens; what is not whole is asked again."""

import json
import subprocess
import sys

import pytest

from data_recipes.regenerate.dialogue import DialogueResult, Reply
from data_recipes.regenerate.journal import AnswerJournal
from vlm_eagle.errors import UserError

SETTINGS = {"target": "demo", "sampling": {"temperature": 0.0}, "seed": 0}


def answered(row, text="an answer", sample=0):
    return DialogueResult((row, sample), f"row-{row}", [Reply(text, 3, tokens=[1, 2])], written=3)


def failed(row, again):
    return DialogueResult((row, 0), f"row-{row}", reason="why", detail="why at length", again=again)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "out" / "journal.jsonl"


@pytest.fixture
def begun(file):
    with AnswerJournal(file, SETTINGS) as journal:
        for row in range(3):
            journal.append(answered(row, f"Antwort {row}: 好\n\u2028\ud800"))
    return file


def test_it_is_read_back(begun):
    with AnswerJournal(begun, SETTINGS) as journal:
        assert len(journal) == 3
        assert journal[(1, 0)] == answered(1, "Antwort 1: 好\n\u2028\ud800")
        assert journal[(1, 1)] is None
        journal.append(answered(1, "another", sample=1))
        assert journal[(1, 1)].replies[0].text == "another"
        assert journal[(2, 0)].replies[0].text.startswith("Antwort 2")


@pytest.mark.parametrize("missing", [1, 2, 20, 60])
def test_a_torn_line_is_cut(begun, missing):
    whole = begun.read_bytes()
    begun.write_bytes(whole[:-missing])
    with AnswerJournal(begun, SETTINGS) as journal:
        assert [journal.is_done((row, 0)) for row in range(3)] == [True, True, False]
        journal.append(answered(2, f"Antwort {2}: 好\n\u2028\ud800"))
    assert begun.read_bytes() == whole


def test_a_journal_of_another_version_is_left_alone(file):
    file.parent.mkdir()
    file.write_text('{"journal": 99, "settings": {}}\n')
    with pytest.raises(UserError, match="of version 99"):
        AnswerJournal(file, SETTINGS)
    assert file.read_text() == '{"journal": 99, "settings": {}}\n'


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_torn_first_line_begins_anew(begun, kept):
    begun.write_bytes(begun.read_bytes()[:kept])
    with AnswerJournal(begun, SETTINGS) as journal:
        assert len(journal) == 0
    assert json.loads(begun.read_bytes())["settings"] == SETTINGS


@pytest.mark.parametrize("damage", [b"\0" * 40, b"{}", b'{"key": 3}', b'["key"]', b"\xff\xfe"])
def test_a_damaged_line_is_asked_again(begun, damage):
    lines = begun.read_bytes().splitlines(keepends=True)
    lines[2] = damage + b"\n"
    begun.write_bytes(b"".join(lines))
    with AnswerJournal(begun, SETTINGS) as journal:
        assert journal.unreadable == 1
        assert [journal.is_done((row, 0)) for row in range(3)] == [True, False, True]
        assert journal[(2, 0)].id == "row-2"


def test_what_is_left_to_ask(file):
    with AnswerJournal(file, SETTINGS) as journal:
        for result in (answered(0), failed(1, again=True), failed(2, again=False)):
            journal.append(result)
        early = answered(3)
        early.reason = "too long"
        journal.append(early)
        for _ in range(2):  # before and after it is read back
            assert [journal.is_done((row, 0)) for row in range(5)] == [True, False, True, True, False]
            assert [journal.is_done((row, 0), retry_failed=True) for row in range(5)] == [True, False, False, True, False]
            journal._lines.clear()
            journal._read(SETTINGS)


def test_later_lines_replace_earlier_ones(file):
    with AnswerJournal(file, SETTINGS) as journal:
        journal.append(failed(0, again=True))
        journal.append(answered(0))
        assert journal[(0, 0)] == answered(0)
    with AnswerJournal(file, SETTINGS) as journal:
        assert (len(journal), journal[(0, 0)], journal.is_done((0, 0))) == (1, answered(0), True)


def test_other_settings_may_not_continue(begun):
    other = {**SETTINGS, "target": "another", "sampling": {"temperature": 0.7}}
    with pytest.raises(UserError, match=r"sampling was .*0\.0.*now .*0\.7.*; target was demo, now another"):
        AnswerJournal(begun, other)
    with AnswerJournal(begun, SETTINGS) as journal:  # the lock was given back
        assert len(journal) == 3


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": "a row"}', "{}"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_what_is_no_journal_is_left_alone(tmp_path, line, end):
    file = tmp_path / "journal.jsonl"
    file.write_text(line + end)
    with pytest.raises(UserError, match="not a journal of this command"):
        AnswerJournal(file, SETTINGS)
    assert file.read_text() == line + end


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="Cannot write"):
        AnswerJournal(tmp_path / "out" / "journal.jsonl", SETTINGS)


def test_one_process_writes(begun):
    code = f"import sys, fcntl; f = open({str(begun)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with AnswerJournal(begun, SETTINGS):
        with pytest.raises(UserError, match="another process"):
            AnswerJournal(begun, SETTINGS)
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


class FullDisk:
    """A stream that takes a few bytes of a line and then no more."""

    def __init__(self, stream, room):
        self.stream, self.room = stream, room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        count = self.stream.write(data[: self.room])
        self.room = 0
        return count

    def __getattr__(self, name):
        return getattr(self.stream, name)


def test_a_full_disk_leaves_whole_lines(begun):
    whole = begun.read_bytes()
    with AnswerJournal(begun, SETTINGS) as journal:
        journal._stream, real = FullDisk(journal._stream, 17), journal._stream
        with pytest.raises(UserError, match="No space left on device"):
            journal.append(answered(3))
        assert begun.read_bytes() == whole
        assert not journal.is_done((3, 0))
        journal._stream = real
        journal.append(answered(3))
        assert journal[(3, 0)] == answered(3)
