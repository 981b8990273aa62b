"""What is finished is kept through kills, and read by whoever goes on."""

import pytest

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.scores.journal import EvaluationJournal, digest


def test_lines_outlive_kills(tmp_path):
    """Two processes, each killed in the middle of a line, twice."""
    for number in range(2):
        for rank in range(2):
            journal = EvaluationJournal(tmp_path / "x.json", rank)
            assert len(journal.found) == 2 * number + rank
            for name in ("a", "b"):
                journal.record(f"{name} {rank} {number}", {"n": number})
            file = tmp_path / f"x.journal.{rank}.jsonl"
            file.write_bytes(file.read_bytes()[:-5])
    found = EvaluationJournal(tmp_path / "x.json", 5).found
    assert found == {f"a {rank} {number}": {"n": number} for rank in range(2) for number in range(2)}


def test_only_the_journals_of_these_results_are_touched(tmp_path):
    ours, other = EvaluationJournal(tmp_path / "x.json"), EvaluationJournal(tmp_path / "xy.json")
    for journal in (ours, other):
        journal.record("key", {})
    (tmp_path / "x.journal.1.jsonl").write_text('rubbish\n[1]\n{"key": 1}\n')
    assert EvaluationJournal(tmp_path / "x.json").found == {"key": {}}
    ours.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["xy.journal.0.jsonl"]


def test_a_place_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"x\.json: File exists"):
        EvaluationJournal(tmp_path / "file" / "x.json")


def test_digests_are_of_content():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
