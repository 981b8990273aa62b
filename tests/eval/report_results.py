"""Result files for the report's tests: invented answers with known counts, in the form that `result_schema.py` describes."""

import json
import random
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.evaluation.result_schema import SCHEMA, TurnResult
from vlm_eagle.evaluation.scores.sums import breakdowns

GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
WORDS = [
    "",
    "the",
    "a",
    "red",
    "blue",
    "large",
    "small",
    "square",
    "circle",
    "and",
    "is",
    "in",
    "image",
    "of",
    "left",
    "right",
    "two",
    "<b>&amp;",
    "中文",
    "字",
    ".",
    ",\n",
]

EVIL = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    "]]>--><svg onload=document.title='pwned'>{{ 7*7 }}'\"&lt;\u202egnp.exe\u2066\x00\ud800javascript:alert(1)"
)


def prompt_row(rng: random.Random, number: int, depth: int, length: int, pieces: list[str], **more: Any) -> dict[str, Any]:
    """One prompt decoded with a chain of `depth` proposed tokens; the last forward may be cut."""
    committed, accepted, left = [], [], length - 1
    while left:
        kept = min(sum(1 for _ in iter(lambda: rng.random() < 0.75, False)), depth)
        accepted.append(min(kept, left))
        committed.append(min(kept + 1, left))
        left -= committed[-1]
    return {
        "id": f"p{number}", "question": f"Question {number}?", "images": [], "language": "en", "modality": "text",
        "category": None, "turn": 0, "output_token_ids": list(range(length)), "pieces": pieces,
        "committed": committed, "accepted": accepted, "num_forwards": len(committed), "num_committed": sum(committed), **more,
    }  # fmt: skip


def stats_of(rows: list[dict[str, Any]], depth: int) -> AcceptanceStats:
    """Counted forward by forward, as decoding does."""
    stats = AcceptanceStats()
    for row in rows:
        for kept, tokens in zip(row["accepted"], row["committed"], strict=True):
            stats.record(kept, tokens, depth)
    return stats


def summary(stats: AcceptanceStats, interval: bool = True) -> dict[str, Any]:
    tau = stats.acceptance_length
    return {
        "tokens": stats.tokens, "forwards": stats.forwards, "acceptance_length": tau,
        "interval": [tau - 0.2, tau + 0.2] if interval else None,
        "by_position": stats.by_position, "conditional": stats.conditional,
    }  # fmt: skip


def setting(benchmarks: dict[str, list[dict[str, Any]]], depth: int, **more: Any) -> dict[str, Any]:
    """A column of vlm-eagle score from its prompts."""
    parts = {name: stats_of(rows, depth) for name, rows in benchmarks.items()}
    total = AcceptanceStats()
    for part in parts.values():
        total += part
    rows = [
        {"name": name, **summary(parts[name]), "max_new_tokens": 80, "skipped": {}, "prompts": benchmarks[name]}
        for name in benchmarks
    ]
    turns = [[TurnResult(**row) for row in own] for own in benchmarks.values()]
    return {
        "draft": "drafts/one", "target": "demo", "num_draft_tokens": depth + 1, "num_speculative_tokens": depth, "topk": 1,
        "num_steps": depth, "sampling": dict(GREEDY), "concurrency": 1, "breakdowns": asdict(breakdowns(turns)),
        "average_acceptance_length": sum(row["acceptance_length"] for row in rows) / len(rows), "totals": summary(total),
        "benchmarks": rows, **more,
    }  # fmt: skip


def results(settings: list[dict[str, Any]], speed: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    run = {
        "command": ["vlm-eagle", "score", "--draft-tokens", "4"],
        "started": "2026-01-02T03:04:05+0000",
        "versions": {"torch": "2.9"},
    }
    return {"schema": SCHEMA, "run": run, "settings": settings, "speed": speed or []}


def invent(
    folder: Path, prompts: int = 12, depths: tuple[int, ...] = (3, 7), length: int = 40, images: bool = True, side: int = 96
) -> Path:
    """A result file with `prompts` prompts over four benchmarks, greedy: all settings give the same answers."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("vqa", "chinese", "code", "chart")
    common = []
    for number in range(prompts):
        size = rng.randint(2, 2 * length)
        pieces = [" " + rng.choice(WORDS) for _ in range(size - 1)] + ["<|im_end|>"]
        name = names[number % len(names)]
        more: dict[str, Any] = {"language": "zh" if name == "chinese" else "en"}
        if images and name in ("vqa", "chart"):
            file = Path("images") / f"{number}.jpg"
            write_image(folder / file, number, side)
            more |= {"images": [str(file)], "modality": "image"}
        common.append((name, number, size, pieces, more))
    settings = []
    for depth in depths:
        benchmarks: dict[str, list[dict[str, Any]]] = {}
        for name, number, size, pieces, more in common:
            benchmarks.setdefault(name, []).append(prompt_row(rng, number, depth, size, pieces, **more))
        settings.append(setting(benchmarks, depth))
    return write(folder / "results.json", results(settings, [speed(depth + 1, 1.5 + 0.1 * depth) for depth in depths]))


def speed(nodes: int, seen: float) -> dict[str, Any]:
    method = {
        "tokens": 600, "answers": 12, "decode_seconds": 20.0, "end_to_end_seconds": 30.0, "end_to_end_tokens_per_second": 20.0,
        "first_token_seconds": 0.05, "equal_to_target_alone": 12,
    }  # fmt: skip
    costs = {"step_seconds": 1.0, "cycle_seconds": 2.0, "r_verify": 1.2, "r_extend": 0.2, "r_draft": 0.4, "r_overhead": 0.2}
    return {
        "draft": "drafts/one", "target": "demo", "num_draft_tokens": nodes, "num_speculative_tokens": nodes - 1, "topk": 1,
        "num_steps": nodes - 1, "sampling": dict(GREEDY), "concurrency": 1,
        "speedup": seen - 0.3, "interval": [seen - 0.4, seen - 0.2],
        "decode_speedup": seen, "decode_interval": [seen - 0.1, seen + 0.1],
        "speed_model": {
            **costs, "overhead_share_of_cycle": 0.1, "acceptance_length": 3.0, "predicted_speedup": seen + 0.25,
            "seen_speedup": seen,
        },
        "methods": {
            "target alone": {**method, "decode_tokens_per_second": 30.0, "acceptance_length": 1.0},
            "with the draft": {**method, "decode_tokens_per_second": 30.0 * seen, "acceptance_length": 3.0},
        },
        "benchmarks": [{"name": "vqa", "decode_speedup": seen + 0.05}],
    }  # fmt: skip


def write_image(file: Path, seed: int, side: int = 96) -> None:
    """Blocks and noise: about what a photograph costs after compression, and no two alike."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.roll(_noise(side), (seed % side, seed // side), (0, 1))).save(file, quality=85)


@cache
def _noise(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 200, (side // 8, side // 8, 3)), np.ones((8, 8, 1)))
    return (coarse + rng.integers(0, 25, coarse.shape)).astype(np.uint8)


def write(file: Path, value: Any) -> Path:
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def hostile(folder: Path) -> Path:
    """A file in which everything that is text is an attack."""
    pieces = [EVIL, "<b>", "javascript:alert(1)", "\u202e", "</script>", "<!--"]
    row = prompt_row(
        random.Random(0), 1, 3, 6, pieces, question=EVIL, images=["data:image/svg+xml,<svg onload=alert(1)>", EVIL]
    )
    row |= {"id": EVIL, "language": EVIL, "modality": EVIL}
    other = {**row, "id": "x", "language": "</table>", "modality": "<i>"}
    column = setting({EVIL: [row, other]}, 3, draft=EVIL, target=EVIL, engine={"kind": EVIL, "version": EVIL})
    column["benchmarks"][0]["skipped"] = {EVIL: 2}
    second = {**column, "draft": EVIL + "2", "concurrency": 4}
    value = results([column, second])
    value["run"]["command"], value["run"]["versions"] = [EVIL, EVIL], {EVIL: EVIL}
    timing = speed(4, 2.0)
    timing |= {"draft": EVIL, "target": EVIL, "shape": EVIL, "benchmarks": [{"name": EVIL, "decode_speedup": 1}]}
    timing["methods"] = {EVIL: timing["methods"]["target alone"], **timing["methods"]}
    value["speed"] = [timing]
    return write(folder / "hostile.json", value)
