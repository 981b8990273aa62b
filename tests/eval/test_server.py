"""`acc_length.py --server`: the engine's own column, in the same table and JSON."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "interop" / "engines"))

import evaluations
from fake_engines import Canned, FakeSglang, FakeVllm, serving

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import score as command
from vlm_eagle.commands.score import Config, main
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.interop.engines.vllm import VllmEngine


@pytest.fixture
def score(data, tmp_path, monkeypatch, capsys):
    """Runs the command on a fake; (exit code, its one column, what was printed)."""
    monkeypatch.setenv("COLUMNS", "120")

    def here(fake, *options):
        out = tmp_path / "out.json"
        argv = ["--server", fake.url, "--target", str(data / "target"), "--json", str(out)]
        argv += ["--benchmarks", str(data / "held_out.jsonl"), *options]
        code = run_cli(main, Config, "", argv=argv)
        said = capsys.readouterr()
        column = json.loads(out.read_text())["settings"][0] if out.exists() else None
        return code, column, said.out + said.err

    def run(fake, *options):
        with serving(fake):
            return here(fake, *options)

    run.here = here  # where it is serving already
    return run


def test_vllm_column(score):
    code, column, said = score(FakeVllm(k=3))
    assert code == 0
    assert (column["num_draft_tokens"], column["num_speculative_tokens"], column["topk"]) == (4, 3, 1)
    assert column["engine"]["kind"] == "vllm"
    (row,) = column["benchmarks"]
    assert len(row["prompts"]) == 3
    assert (column["totals"]["tokens"], column["totals"]["forwards"]) == (27, 12)
    assert row["acceptance_length"] == column["average_acceptance_length"] == 9 / 4
    assert row["by_position"] == [0.75, 0.5, 0]
    assert "(vLLM: 3; chain)" in said
    assert "2.25" in said


def test_sglang_column_with_images(score):
    fake = FakeSglang()
    code, column, said = score(fake)
    assert (code, column["num_draft_tokens"], column["num_steps"], column["topk"]) == (0, 16, 5, 4)
    assert "tree, topk 4, steps 5" in said
    images = [body for body in fake.requests if "image_data" in body]
    assert len(images) == 2
    assert all("<|vision_start|><|image_pad|><|vision_end|>" in body["text"] for body in images)
    assert all(body["text"].endswith("<|im_start|>assistant\n") for body in fake.requests)


def test_sampling_reaches_the_server(score):
    fake = FakeVllm()
    score(fake, "--temperature", "0.7", "--top-k", "20", "--seed", "5", "--max-new-tokens", "9")
    seeds = [body["seed"] for body in fake.requests]
    assert len(set(seeds)) == 3
    again = FakeVllm()
    score(again, "--temperature", "0.7", "--top-k", "20", "--seed", "5", "--max-new-tokens", "9", "--limit", "2")
    assert [body["seed"] for body in again.requests] == seeds[:2]  # of a prompt, wherever it stands
    assert {(body["temperature"], body["top_k"], body["max_tokens"]) for body in fake.requests} == {(0.7, 20, 9)}


def test_refused_prompts_are_counted(score):
    code, column, said = score(FakeVllm(faults=["400"]))
    assert (code, column["benchmarks"][0]["skipped"]) == (0, {"refused by the server": 1})
    assert "refused by the server" in said


def test_a_server_that_refuses_everything_says_why(score):
    code, column, said = score(FakeVllm(faults=["400"] * 3))
    assert (code, column) == (2, None)
    assert "made to fail with 400" in said


def test_an_interruption_leaves_nothing_half_written(score, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(VllmEngine, "answer", interrupt)
    assert score(FakeVllm())[:2] == (130, None)


def test_nothing_accepted_is_pointed_out(score):
    rejecting = FakeVllm(lambda body: Canned([5] * 7, drafts=6, by_position=[0, 0, 0]))
    assert "accepted no draft token at all" in score(rejecting)[2]
    assert "accepted no draft token at all" not in score(FakeVllm())[2]


def test_later_turns_follow_the_servers_own_answers(score, monkeypatch):
    asked = evaluations.prompt("code", 2, "And the other way round?")
    monkeypatch.setattr(command, "load_benchmarks", lambda *_, **__: [Benchmark("b", [asked])])
    fake = FakeVllm()
    code, column, _ = score(fake, "--temperature", "0.7")
    assert code == 0
    assert len({body["seed"] for body in fake.requests}) == 2  # each turn draws its own numbers
    first, second = (body["messages"] for body in fake.requests)
    assert second[: len(first)] == first
    assert [(m["role"], m["content"]) for m in second[len(first) :]] == [
        ("assistant", "an answer"), ("user", "And the other way round?"),
    ]  # fmt: skip
    assert [row["turn"] for row in column["benchmarks"][0]["prompts"]] == [0, 1]
    assert (column["totals"]["tokens"], column["totals"]["forwards"]) == (18, 8)


def test_an_interrupted_server_run_goes_on(score, monkeypatch):
    answer = VllmEngine.answer

    def interrupt(self, *asked):
        if len(fake.requests) == 2:
            raise KeyboardInterrupt
        return answer(self, *asked)

    with serving(fake := FakeVllm()):
        with monkeypatch.context() as patch:
            patch.setattr(VllmEngine, "answer", interrupt)
            assert score.here(fake)[0] == 130
        code, column, said = score.here(fake)
    assert (code, len(fake.requests), len(column["benchmarks"][0]["prompts"])) == (0, 3, 3)
    assert "Going on: 2 of 3" in said


def test_a_server_is_asked_again_because_its_draft_may_be_another(score):
    with serving(fake := FakeVllm(k=3)):
        assert score.here(fake)[1]["totals"]["forwards"] == 12
        fake.answer = lambda body: Canned([5] * 7, drafts=6, by_position=[0, 0, 0])
        _, column, said = score.here(fake)
    assert column["totals"]["forwards"] == 18
    assert "Already scored" not in said


def test_a_server_needs_no_draft_here(score):
    assert score(FakeVllm(), "--draft", "no/such/folder")[0] == 0
