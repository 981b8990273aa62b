"""Small evaluations: prompts of every kind, drafts on disk, and the commands run in this process."""

import json

from conftest import make_imitating_draft

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import score, speedup
from vlm_eagle.data.benchmark import Benchmark, Prompt, chinese_or_english
from vlm_eagle.demo import mix

LENGTH = 9  # tokens of an answer


def save_pair(target, folder):
    """A target and a draft that is sometimes right, as folders."""
    target.model.save_pretrained(folder / "target")
    target.processor.save_pretrained(folder / "target")
    make_imitating_draft(target).save_pretrained(folder / "draft")
    return folder


def prompt(task, number, *follow_ups):
    conversation = mix.sample(task, number).prompt()
    text = conversation.messages[-1].content[-1].text
    return Prompt(conversation, follow_ups, chinese_or_english(text), category=task)


def benchmarks():
    """Text and images, one image and several, one turn and two, English and Chinese."""
    words = [prompt("arithmetic", 1), prompt("code", 2, "And the other way round?"), prompt("chinese", 3), prompt("code", 4)]
    seen = [prompt("describe", 1), prompt("multi-image", 2), prompt("vqa", 3, "Why?", "Are you sure?")]
    return [Benchmark("words", words), Benchmark("seen", seen, max_new_tokens=LENGTH - 3)]


class Evaluation:
    """Runs acc_length.py (or speedup.py) in this process on given benchmarks."""

    def __init__(self, folder, out, monkeypatch):
        self.folder, self.out, self.monkeypatch = folder, out, monkeypatch

    def __call__(self, *options, on=None, file="out.json", script=score):
        """(exit code, the JSON or None)."""
        given = benchmarks() if on is None else on
        self.monkeypatch.setattr(script, "load_benchmarks", lambda names, limit=None, console=None: given)
        argv = ["--target", str(self.folder / "target"), "--draft", str(self.folder / "draft")]
        place = ["--json", str(self.out / file)] if script is score else ["--output-dir", str(self.out)]
        config = score.Config if script is score else speedup.Config
        code = run_cli(script.main, config, "", argv=[*argv, *place, *options])
        written = self.out / (file if script is score else "speedup.json")
        return code, json.loads(written.read_text()) if written.is_file() else None


def rows_of(setting):
    """(benchmark, prompt, turn) -> row."""
    return {(b["name"], r["id"], r["turn"]): r for b in setting["benchmarks"] for r in b["prompts"]}


def figures(result):
    """All that was decoded and counted, without the machine and the date."""
    return [
        {key: (row["output_token_ids"], row["committed"], row["accepted"]) for key, row in rows_of(setting).items()}
        for setting in result["settings"]
    ]
