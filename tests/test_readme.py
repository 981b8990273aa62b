"""Every command in the README's bash blocks runs (small), or at least parses when it names a model on the hub."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from conftest import make_draft
from waiting import LIMIT

from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_benchmarks, write_jsonl
from vlm_eagle.target.load import load_target

pytestmark = pytest.mark.multi_process

ROOT = Path(__file__).parents[1]
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
# What makes a command quick enough to run here. It keeps the command's own options.
SMALLER = {
    "scripts/train_vlm.py": "--max-steps 2 --batch-size 2 --eval-steps 2 --data.train {data}/train.jsonl "
    "--data.eval {data}/held_out.jsonl --data.num-workers 0 --draft.ttt-length 2",
    "eval/acc_length.py": "--limit 1 --max-new-tokens 8",
    "eval/lossless.py": "--limit 1 --max-new-tokens 8",
    "eval/speedup.py": "--question-end 1 --max-new-tokens 8",
    "scripts/generate.py": "--max-new-tokens 8",
    "scripts/make_text_target.py": "",
    "scripts/capture_features.py": "--data.train {data}/train.jsonl --data.eval {data}/held_out.jsonl --data.num-workers 0",
    "vlm-eagle preview": "--data {data}/train.jsonl",
    "vlm-eagle data-report": "--data {data}/train.jsonl --workers 0",
    "vlm-eagle vocabulary": "--data {data}/train.jsonl --workers 0",
    "vlm-eagle doctor": "--static",  # two steps make no healthy draft
    "vlm-eagle export": "",
    "eval/report.py": "",
    "python -m data_recipes.regenerate": "--data {data}/held_out.jsonl --max-new-tokens 16 --truncated-answers keep",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder to run in, with a little demo data whose answers are the reference ones."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    samples = [mix.sample(task, i) for task in ("arithmetic", "describe", "chinese") for i in range(2)]
    write_jsonl(folder / "data" / "train.jsonl", samples)
    write_jsonl(folder / "data" / "held_out.jsonl", samples[:2])
    write_benchmarks(folder / "outputs/demo/data/benchmarks", 2)
    for name in ("scripts", "eval", "assets"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command, folder, launch):
    """As it stands there. Without `launch`, what accelerate would start is started without it: that saves seconds."""
    words = shlex.split(command)
    if words[0] == "accelerate" and launch:
        words = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", *words[2:]]
        env = os.environ | {"PYTHONWARNINGS": "error"}
        return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT)
    return forked.run(["python", *words[2:]] if words[0] == "accelerate" else words, folder)


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, workplace):
    words = command.split()
    script = next((word for word in words if word.endswith(".py")), " ".join(words[: 3 if words[1] == "-m" else 2]))
    smaller = "--print_config" if re.search("qwen", command, re.IGNORECASE) else SMALLER[script].format(data=workplace / "data")
    launch = command == next(command for command in COMMANDS if command.startswith("accelerate"))
    result = run(f"{command} {smaller}", workplace, launch)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert result.stdout.strip()


def test_python_examples_run_as_they_are_pasted(tmp_path, monkeypatch):
    make_draft(load_target("demo", dtype="float32")).save_pretrained(tmp_path / "outputs" / "demo" / "draft")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for block in blocks:
        names: dict = {}
        exec(block.replace("512", "8"), names)
        assert [len(answer.generation.tokens) for answer in names["answers"]] == [8, 8]
    assert blocks
