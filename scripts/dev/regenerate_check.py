"""Is an answer written through a server the one we decode ourselves, and does a run survive being killed?

    python scripts/dev/regenerate_check.py --vllm-python ../vllm-env/bin/python

Makes conversations with the demo's generators (a third with images, some of several turns), serves the target with a vLLM of
another environment, answers them with vlm-eagle regenerate, which is killed (kill -9) on the way, and once more in this
process, without and with the draft. The exit code is 1 if a conversation is missing, doubled or misplaced, or a token differs.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measurements import write_results
from rich.console import Console

from vlm_eagle.cli import run_cli
from vlm_eagle.config import DEMO, draft_for, resolve_target
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.process import free_port, running, vllm_command

START = 300_000  # sample numbers from here on are nobody else's
# a third shows images
TASKS = ("describe", "arithmetic", "chinese", "vqa", "code", "arithmetic", "multi-image", "chinese", "code")
TURNS = (1, 1, 2, 3)
COMMAND = (sys.executable, "-m", "vlm_eagle", "regenerate")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@dataclass(kw_only=True)
class CheckConfig:
    """What to check.

    Attributes:
        vllm_python: interpreter of an environment with vLLM.
        target: folder or hub id of the target, or demo.
        draft: folder or hub id of the draft that our own loop uses; the word none leaves that run out; auto for the demo's own.
        conversations: how many.
        max_new_tokens: longest answer.
        kills: how often the run through the server is killed.
        concurrency: requests under way at a time.
        start_timeout: seconds the server may take to start.
        out: folder of everything this writes.
    """

    vllm_python: str
    target: str = DEMO
    draft: str = "auto"
    conversations: int = 500
    max_new_tokens: int = 64
    kills: int = 2
    concurrency: int = 8
    start_timeout: float = 900.0
    out: str = "outputs/regenerate-check"

    def __post_init__(self) -> None:
        self.draft = draft_for(self.target, self.draft)


def main(config: CheckConfig) -> int:
    """Prints the table; 1 if anything differs."""
    console, out = Console(), Path(config.out)
    if out.exists():
        raise UserError(f"{out} exists. Move it away, or give another --out.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with us
    prompts = [conversation(i) for i in range(config.conversations)]
    write_jsonl(out / "prompts.jsonl", prompts)
    # truncated answers are kept and compared too; the dtype is the server's
    common = ("--data", out / "prompts.jsonl", "--target", config.target, "--max-new-tokens", config.max_new_tokens)
    common += ("--truncated-answers", "keep")
    port, target = free_port(), resolve_target(config.target)
    console.print(f"Starting vLLM; its output goes to {out / 'vllm.log'}", style="dim")
    command = vllm_command(config.vllm_python, target, port=port)
    with running(command, f"http://127.0.0.1:{port}", out / "vllm.log", config.start_timeout) as url:
        words = (*common, "--out", out / "server", "--server", url, "--concurrency", config.concurrency)
        killed_at = [_killed(words, out, i * config.conversations // (config.kills + 1)) for i in range(1, config.kills + 1)]
        _run(words, console)
    drafts = {"alone": ()} if config.draft == "none" else {"alone": (), "draft": ("--draft", config.draft)}
    for name, draft in drafts.items():
        _run((*common, "--dtype", "float32", "--out", out / name, *draft), console)
    result = {
        "prompts": _described(prompts),
        "killed_after_conversations": killed_at,
        "server": _sound(out / "server", prompts),
        "compared": {name: _compared(out / "server", out / name) for name in drafts},
        "tokens_per_second": {name: _report(out / name)["this_run"]["tokens_per_second"] for name in ("server", *drafts)},
    }
    write_results(out / "check.json", config, **result)
    console.print_json(data=result)
    sound = result["server"]
    return int(sound["missing"] + sound["doubled"] + _differing(result) > 0 or not sound["in_order"])


def conversation(number: int) -> Conversation:
    """One to be answered: task and turns go round."""
    return mix.sample(TASKS[number % len(TASKS)], START + number, TURNS[number // len(TASKS) % len(TURNS)])


def _killed(words: Sequence[object], out: Path, lines: int) -> int:
    """Runs the command and kills it when its journal has this many conversations; returns how many it had in the end."""
    journal = out / "server" / "journal.jsonl"
    count = lambda: journal.read_bytes().count(b"\n") if journal.is_file() else 0
    with (out / "killed.log").open("ab") as log:
        process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=log, stderr=log, env=ENVIRONMENT)
        while process.poll() is None and count() <= lines:
            time.sleep(0.02)
        process.kill()
    if process.wait() != -signal.SIGKILL:
        raise UserError(f"The run ended with {process.returncode} before it was killed. Look at {out / 'killed.log'}.")
    return count() - 1


def _run(words: Sequence[object], console: Console) -> None:
    console.print(" ".join(map(str, ("regenerate", *words))), style="dim")
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        raise UserError(f"The run ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "regenerate.json").read_text())


def _journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]


def _described(prompts: list[Conversation]) -> dict[str, int]:
    turns = [sum(message.role == "user" for message in prompt.messages) for prompt in prompts]
    several, with_images = sum(n > 1 for n in turns), sum(prompt.has_media for prompt in prompts)
    return {"conversations": len(prompts), "with_images": with_images, "several_turns": several, "turns": sum(turns)}


def _sound(folder: Path, prompts: list[Conversation]) -> dict[str, Any]:
    """Whether the data holds every conversation once, in order, with an answer to every question."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    ids, lengths = [row["id"] for row in rows], {prompt.id: len(prompt.messages) for prompt in prompts}
    whole = {row["id"] for row in rows if len(row["messages"]) == lengths.get(row["id"])}
    keys = [tuple(line["key"]) for line in _journal(folder)]
    return {
        "missing": len(lengths.keys() - whole),
        "doubled": len(ids) - len(set(ids)) + len(keys) - len(set(keys)),
        "in_order": ids == list(lengths),
        "counts": _report(folder)["counts"],
    }


def _compared(theirs: Path, ours: Path) -> dict[str, Any]:
    """Token ids of all answers there and here. A conversation that only one has, or that has fewer answers there, differs."""
    there, here = (
        {tuple(line["key"]): [reply["tokens"] for reply in line["replies"]] for line in _journal(folder)}
        for folder in (theirs, ours)
    )
    differing = sorted({key[0] for key in there | here if there.get(key) != here.get(key)})
    answers = [tokens for replies in here.values() for tokens in replies]
    tokens = sum(len(answer) for answer in answers)
    return {"answers": len(answers), "tokens": tokens, "conversations_that_differ": len(differing), "rows": differing}


def _differing(result: dict[str, Any]) -> int:
    return sum(compared["conversations_that_differ"] for compared in result["compared"].values())


if __name__ == "__main__":
    sys.exit(run_cli(main, CheckConfig, __doc__))
