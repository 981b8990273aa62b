"""The `vlm-eagle` command, as a user meets it."""

import subprocess
import sys
from types import SimpleNamespace

import forked
import pytest
from conftest import make_draft
from rich.console import Console
from waiting import LIMIT

from vlm_eagle.cli import parse
from vlm_eagle.commands import COMMANDS, GROUPS, chat, demo, score, train
from vlm_eagle.decoding.chat import Chat
from vlm_eagle.decoding.generate import Settings
from vlm_eagle.decoding.sampling import Sampler, Sampling
from vlm_eagle.decoding.speculative import SpeculativeDecoder
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.target.load import load_target

pytestmark = pytest.mark.multi_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    make_draft(load_target("demo", dtype="float32"), draft_vocab_size=64).save_pretrained(folder / "draft")
    write_jsonl(folder / "data.jsonl", [mix.sample("describe", 1)])
    return folder


def vlm_eagle(*words, text=""):
    return forked.run(["vlm-eagle", *words], text=text)


def test_help_and_unknown_commands():
    shown = vlm_eagle("--help")
    assert (shown.returncode, "chat" in shown.stdout) == (0, True)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    unknown = vlm_eagle("chatt")
    assert (unknown.returncode, "no command 'chatt'" in unknown.stderr) == (2, True)
    assert "no command" not in vlm_eagle().stderr
    lines = shown.stdout.splitlines()
    assert [sum(line.split()[:1] == [name] for line in lines) for name in COMMANDS] == [1] * len(COMMANDS)
    assert all(f"{group}:" in lines for group in GROUPS)
    for command, option in (("chat", "--draft"), ("import", "--source"), ("export", "--push_to_hub")):
        assert option in vlm_eagle(command, "--help").stdout


def test_preview_marks_what_is_learned_and_loads_no_weights(folder):
    bad = folder / "bad.jsonl"
    bad.write_text("{\n")
    shown = vlm_eagle("preview", "--data", str(folder / "data.jsonl"), str(bad), "--rows", "0", "1")
    assert shown.returncode == 0, shown.stderr[-2000:]
    answer = mix.sample("describe", 1).messages[-1].content[0].text
    text = " ".join(shown.stdout.split())
    assert f"«{answer}<|im_end|>»" in text
    assert text.count("«") == 1
    assert "<|image_pad|> x " in text
    assert "bad JSON" in text
    assert vlm_eagle("preview", "--data", str(folder / "data.jsonl"), "--rows", "7").returncode == 2
    few = vlm_eagle("preview", "--data", str(folder / "data.jsonl"))
    assert (few.returncode, few.stdout.count("learned")) == (0, 1)


def test_a_conversation_about_an_image(folder):
    image = next((folder / "images").iterdir())
    lines = (
        f"/image nowhere.png\n/image {image}\nDescribe this image.\nWhat is 12 + 30?\n/new\n/what\nWhat is 12 + 30?\n/quit\n"
    )
    talk = vlm_eagle("chat", "--draft", str(folder / "draft"), "--max-new-tokens", "40", text=lines)
    assert talk.returncode == 0, talk.stderr[-2000:]
    assert "No such file: nowhere.png" in talk.stdout
    assert talk.stdout.count("acceptance length") == 3
    assert mix.sample("describe", 1).messages[-1].content[0].text.split()[0] in talk.stdout


def test_an_interrupted_answer(target, capsys):
    """While the prompt is read there is nothing to keep; later what was written is kept. The next question is answered."""
    decoder = SpeculativeDecoder(target, make_draft(target), TreeShape(4), Sampler(Sampling()))
    talk = Chat(decoder, Settings(max_new_tokens=12))
    read, cycle = talk.decoder.prefill, talk.decoder.cycle

    def interrupted(*_):
        raise KeyboardInterrupt

    def answer(line):
        chat._answer(talk, line, (), Console())
        return " ".join(capsys.readouterr().out.split())

    talk.decoder.prefill = interrupted
    assert answer("What is 1 + 2?") == "(stopped) 0 tokens, acceptance length 0.00"
    assert talk.conversation is None
    talk.decoder.prefill, talk.decoder.cycle = read, interrupted
    assert "(stopped) 1 tokens" in answer("What is 1 + 2?")
    assert len(talk.conversation.messages) == 2
    talk.decoder.prefill = interrupted
    assert "(stopped) 0 tokens" in answer("And 2 + 2?")
    assert (len(talk.conversation.messages), talk.decoder.cached.tokens) == (2, [])
    talk.decoder.prefill, talk.decoder.cycle = read, cycle
    assert "(stopped)" not in answer("And 2 + 2?")
    assert talk.conversation.messages[-2].content[0].text == "And 2 + 2?"
    assert len(talk.conversation.messages) == 4


def test_a_draft_of_another_target_is_refused_in_one_line(folder, text_target):
    make_draft(text_target).save_pretrained(folder / "other")
    refused = vlm_eagle("chat", "--draft", str(folder / "other"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("text_only", [False, True])
def test_the_demo_runs_the_real_commands(monkeypatch, tmp_path, text_only):
    """Each in a process of its own; the first that fails ends it."""
    codes, ran = [0, 3], []
    monkeypatch.setattr(demo.subprocess, "Popen", lambda words: ran.append(words) or SimpleNamespace(wait=lambda: codes.pop(0)))
    assert demo.main(demo.Config(out=str(tmp_path), text_only=text_only, max_steps=5, limit=1)) == 3
    for words, module in zip(ran, (train, score), strict=True):
        assert words[:4] == [sys.executable, "-m", "vlm_eagle", module.__name__.rpartition(".")[2]]
        config = parse(module.Config, "", words[4:])
        assert config.target == (str(tmp_path / "target") if text_only else "demo")
    assert config.draft == [str(tmp_path / "draft")]
    assert (tmp_path / "target").is_dir() == text_only
    codes[:], ran[:] = [4], []
    assert demo.main(demo.Config(out=str(tmp_path / "other"))) == 4
    assert len(ran) == 1


def test_accelerate_launches_the_module(tmp_path):
    """As `accelerate launch -m vlm_eagle train` does, up to the settings."""
    words = ("--num_processes", "1", "-m", "vlm_eagle", "train", "--config", "qwen3_vl_2b", "--print_config")
    command = [sys.executable, "-m", "accelerate.commands.launch", *words]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert shown.returncode == 0, shown.stderr
    assert "target: Qwen/Qwen3-VL-2B-Instruct" in shown.stdout
