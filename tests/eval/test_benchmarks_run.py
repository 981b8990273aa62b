"""Benchmarks through acc_length.py, with the demo target; and thinking, which is one option from there to the chat template."""

import json
import sys
from pathlib import Path

import pytest
from conftest import make_draft

sys.path.insert(0, str(Path(__file__).parents[1] / "interop" / "engines"))

from benchmark_files import ROWS, write, write_jsonl
from fake_engines import FakeSglang, FakeVllm, serving

from vlm_eagle.cli import run_cli
from vlm_eagle.commands.score import Config, main
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, user_message
from vlm_eagle.evaluation.benchmarks import ENTRIES, load_benchmark
from vlm_eagle.target.load import load_target


@pytest.fixture(scope="module")
def demo_target():
    return load_target("demo", dtype="float32")


@pytest.fixture(scope="module")
def draft_folder(demo_target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("draft")
    make_draft(demo_target).save_pretrained(folder)
    return folder


@pytest.fixture
def score(draft_folder, tmp_path, monkeypatch, capsys):
    """Runs acc_length.py; (exit code, its one column, what was printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*benchmarks, options=()):
        out = tmp_path / "out.json"
        argv = ["--draft", str(draft_folder), "--draft-tokens", "4", "--max-new-tokens", "6", "--json", str(out)]
        code = run_cli(main, Config, "", argv=[*argv, "--benchmarks", *map(str, benchmarks), *options])
        said = capsys.readouterr()
        return code, json.loads(out.read_text()) if out.exists() else None, said.out + said.err

    return run


@pytest.mark.slow
def test_benchmarks_of_every_kind_are_scored(score, tmp_path):
    names = ("mt-bench", "ceval-104", "mmstar", "mmmu", "coco-captions", "mathvista")
    code, results, said = score(*(f"{name}={write(name, tmp_path / name)}" for name in names), options=("--limit", "2"))
    assert code == 0, said
    rows = results["settings"][0]["benchmarks"]
    assert [row["name"] for row in rows] == list(names)
    for row in rows:
        assert len({prompt["id"] for prompt in row["prompts"]}) == 2, row["name"]
        assert row["skipped"] == {}
        assert row["tokens"] > 0
        assert row["name"] in said


def test_the_rest_runs_when_one_benchmark_cannot(score, tmp_path):
    write_jsonl(tmp_path / "other.jsonl", [{"ask": "What?"}])
    code, results, said = score(f"gsm8k={tmp_path / 'other.jsonl'}", f"humaneval={write('humaneval', tmp_path / 'h')}")
    assert code == 0
    assert [row["name"] for row in results["settings"][0]["benchmarks"]] == ["humaneval"]
    assert "Left out: gsm8k" in said
    assert "missing field" in said


def test_skipped_rows_are_counted_in_the_results(score, tmp_path):
    source = write("mmspec-gqa", tmp_path / "m")
    (source / "test" / "images" / "mmspec_002.jpg").unlink()
    code, results, said = score(f"mmspec-gqa={source}")
    assert code == 0
    (row,) = results["settings"][0]["benchmarks"]
    assert (len(row["prompts"]), row["skipped"]) == (ROWS - 1, {"image missing": 1})
    assert "image missing" in said


def test_prompts_end_with_the_generation_prompt(demo_target, tmp_path):
    collator = VisionCollator(demo_target.processor, for_generation=True, strict=True)
    for name in ENTRIES:
        benchmark = load_benchmark(name, source=write(name, tmp_path / name), images=tmp_path / "pictures")
        for prompt in benchmark.prompts:
            text = demo_target.tokenizer.decode(collator([prompt.conversation]).input_ids[0])
            assert text.endswith("<|im_start|>assistant\n"), name
            assert text.count("<|im_start|>user") == 1


# thinking

HYBRID = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)  # as Qwen3's hybrid models have it: without thinking, an empty thought is put before the answer


@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_reaches_the_chat_template(processor, thinking, monkeypatch):
    monkeypatch.setattr(processor, "chat_template", HYBRID)
    collator = VisionCollator(processor, for_generation=True, thinking=thinking)
    text = collator.render(Conversation("a", (user_message("Hi"),)))
    assert text.endswith("assistant\n" if thinking else "</think>\n\n")


@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_reaches_the_collator_and_the_results(score, tmp_path, monkeypatch, thinking):
    seen = []
    render = VisionCollator.render
    monkeypatch.setattr(VisionCollator, "render", lambda self, row: seen.append(self.template_options) or render(self, row))
    write_jsonl(tmp_path / "g.jsonl", [{"question": "How many?"}])
    code, results, _ = score(f"gsm8k={tmp_path / 'g.jsonl'}", options=("--thinking",) if thinking else ())
    assert code == 0
    assert seen
    assert all(options == {"enable_thinking": thinking} for options in seen)
    assert results["run"]["config"]["thinking"] is thinking


@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_reaches_servers(score, tmp_path, monkeypatch, thinking):
    write_jsonl(tmp_path / "g.jsonl", [{"question": "How many?"}])
    option = ("--thinking",) if thinking else ()
    with serving(fake := FakeVllm()):
        assert score(f"gsm8k={tmp_path / 'g.jsonl'}", options=("--server", fake.url, *option))[0] == 0
    assert [body["chat_template_kwargs"] for body in fake.requests] == [{"enable_thinking": thinking}]
    seen = []
    render = VisionCollator.render
    monkeypatch.setattr(VisionCollator, "render", lambda self, row: seen.append(self.template_options) or render(self, row))
    with serving(fake := FakeSglang()):
        assert score(f"gsm8k={tmp_path / 'g.jsonl'}", options=("--server", fake.url, *option))[0] == 0
    assert seen == [{"enable_thinking": thinking}]
