"""The launch scripts print the founding documents' parameters and refuse what they cannot serve."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from waiting import LIMIT

SCRIPTS = Path(__file__).parents[1] / "scripts"


def serve(engine, *words):
    return subprocess.run([SCRIPTS / f"serve_{engine}.sh", *words], capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("tree16", (5, 4, 16)), ("tree32", (6, 10, 32)), ("chain3", (3, 1, 4)), ("chain7", (7, 1, 8)), (None, (5, 4, 16))],
)
def test_sglang_presets(preset, parameters):
    result = serve("sglang", "a target", "draft", *(["--preset", preset] if preset else []), "--print")
    words = shlex.split(result.stdout)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    names = ("--speculative-num-steps", "--speculative-eagle-topk", "--speculative-num-draft-tokens")
    assert tuple(int(options[name]) for name in names) == parameters
    assert (options["--model-path"], options["--speculative-draft-model-path"]) == ("a target", "draft")


@pytest.mark.parametrize(("preset", "k"), [(None, 3), ("chain3", 3), ("chain7", 7)])
def test_vllm_presets(preset, k):
    words = [
        "target",
        'a "draft',
        "--port",
        "81",
        "--print",
        *(["--preset", preset] if preset else []),
        "--",
        "--dtype",
        "half",
    ]
    said = shlex.split(serve("vllm", *words).stdout)
    assert said[:3] == ["vllm", "serve", "target"]
    assert said[said.index("--port") + 1] == "81"
    assert said[-2:] == ["--dtype", "half"]
    assert json.loads(said[said.index("--speculative-config") + 1]) == {
        "method": "eagle3", "model": 'a "draft', "num_speculative_tokens": k,
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_without_a_draft_the_target_decodes_alone(engine):
    said = shlex.split(serve(engine, "a target", "--port", "81", "--print", "--", "--dtype", "half").stdout)
    assert said[-5:] == ["a target", "--port", "81", "--dtype", "half"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_help(engine):
    result = serve(engine, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("engine", "words", "message"),
    [
        ("vllm", [], "expected TARGET and perhaps DRAFT"),
        ("sglang", ["target", "draft", "third"], "expected TARGET and perhaps DRAFT"),
        ("vllm", ["target", "draft", "--preset", "tree16"], "vLLM drafts chains only"),
        ("vllm", ["target", "draft", "--preset"], "--preset needs a value"),
        ("sglang", ["target", "draft", "--preset", "tree17"], "no preset tree17"),
        ("sglang", ["target", "draft", "--dtype", "half"], "unknown option --dtype"),
    ],
)
def test_wrong_command_lines(engine, words, message):
    result = serve(engine, *words)
    assert result.returncode == 2
    assert message in result.stderr
