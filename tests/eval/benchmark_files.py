"""Small local copies of every benchmark in its true schema, as a download of it would lie there: `write(name, folder)`.

Three rows each, made up here; field names, nesting, file names and the way images are kept are the benchmarks' own.
"""

import csv
import functools
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_eagle.data.benchmark import Benchmark, Prompt
from vlm_eagle.data.conversation import TextPart
from vlm_eagle.demo.scenes import draw, random_scene

ROWS = 3  # in each copy; C-Eval and CMMLU have as many in each of two subjects


def write(name: str, folder: Path) -> Path:
    """Writes the copy of a benchmark and gives its folder back."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[name](folder)
    return folder


def said(prompt: Prompt) -> str:
    """The first turn, pictures as `<seed>` of the picture they are."""
    pictures = {png(hundred + i): hundred + i for hundred in range(0, 600, 100) for i in range(6)}
    parts = prompt.conversation.messages[-1].content
    return "".join(p.text if isinstance(p, TextPart) else f"<{pictures[p.image.read_bytes()]}>" for p in parts)


def asked(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Ids and first turns."""
    return [(p.id, said(p)) for p in benchmark.prompts]


@functools.cache
def png(seed: int) -> bytes:
    """A small picture, another one for every seed."""
    file = io.BytesIO()
    draw(random_scene(random.Random(seed))).save(file, format="PNG")
    return file.getvalue()


def embedded(seed: int, path: str | None = None) -> dict[str, Any]:
    """A picture as `datasets` stores it in Parquet."""
    return {"bytes": png(seed), "path": path}


def write_jsonl(file: Path, rows: Sequence[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def _mt_bench(folder: Path) -> None:  # FastChat's question.jsonl
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["Write about a red circle.", "Now in five words."]},
        {"question_id": 101, "category": "math", "turns": ["What is 3 + 4?", "And 3 + 5?"], "reference": ["7", "8"]},
        {"question_id": 9, "category": "coding", "turns": ["Write a loop.", "Make it count down."]},
    ]
    write_jsonl(folder / "question.jsonl", rows)
    write_jsonl(folder / "reference_answer" / "gpt-4.jsonl", [{"question_id": 101, "choices": [{"turns": ["7", "8"]}]}])


def _mt_bench_zh(folder: Path) -> None:
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["写一个关于红色圆形的故事。", "用五个字改写。"]},
        {"question_id": 82, "category": "math", "turns": ["三加四等于几?", "三加五呢?"], "reference": ["7", "8"]},
        {"question_id": 83, "category": "coding", "turns": ["写一个循环。", "让它倒数。"]},
    ]
    write_jsonl(folder / "question.jsonl", rows)


def _gsm8k(folder: Path) -> None:
    rows = [
        {"question": f"Ann has {i} apples and buys 2. How many?", "answer": f"<<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}"}
        for i in range(ROWS)
    ]
    write_parquet(folder / "main" / "test-00000-of-00001.parquet", rows)
    write_parquet(folder / "main" / "train-00000-of-00001.parquet", [{"question": "TRAIN", "answer": "#### 1"}])
    write_parquet(folder / "socratic" / "test-00000-of-00001.parquet", rows)


def _humaneval(folder: Path) -> None:
    rows = [
        {
            "task_id": f"HumanEval/{i}", "prompt": f'def add{i}(a, b):\n    """Add {i} too."""\n', "entry_point": f"add{i}",
            "canonical_solution": f"    return a + b + {i}\n", "test": "def check(candidate):\n    pass\n",
        }
        for i in (2, 10, 1)
    ]  # fmt: skip
    write_jsonl(folder / "HumanEval.jsonl", rows)


def _math500(folder: Path) -> None:
    rows = [
        {
            "problem": f"Compute $\\sqrt{{{i * i}}}$.", "solution": f"It is $\\boxed{{{i}}}$.", "answer": str(i),
            "subject": "Algebra", "level": 1, "unique_id": f"test/algebra/{i}.json",
        }
        for i in (2, 3, 10)
    ]  # fmt: skip
    write_jsonl(folder / "test.jsonl", rows)


CEVAL_FIELDS = ("id", "question", "A", "B", "C", "D", "answer", "explanation")


def ceval_row(i: int, subject: str) -> tuple[Any, ...]:
    return (i, f"{subject}第{i}题:____", "NA", "1.50", "丙", f"丁{i}", "A", "")


def _ceval(folder: Path) -> None:  # the archive's layout
    for subject in ("accountant", "computer_network"):
        rows = [ceval_row(i, subject) for i in range(ROWS)]
        write_csv(folder / "val" / f"{subject}_val.csv", CEVAL_FIELDS, rows)
        write_csv(folder / "test" / f"{subject}_test.csv", CEVAL_FIELDS, [ceval_row(9, "TEST")])


def _ceval_parquet(folder: Path) -> None:  # the Hub's layout
    for subject in ("accountant", "computer_network"):
        rows = [dict(zip(CEVAL_FIELDS, ceval_row(i, subject), strict=True)) for i in range(ROWS)]
        write_parquet(folder / subject / "val-00000-of-00001.parquet", rows)
        write_parquet(folder / subject / "dev-00000-of-00001.parquet", rows[:1])


def _cmmlu(folder: Path) -> None:
    for subject in ("agronomy", "anatomy"):
        rows = [(i, f"{subject}第{i}题", "甲", "乙", "丙", "丁", "B") for i in range(ROWS)]
        write_csv(folder / "test" / f"{subject}.csv", ("", "Question", "A", "B", "C", "D", "Answer"), rows)
        write_csv(folder / "dev" / f"{subject}.csv", ("", "Question", "A", "B", "C", "D", "Answer"), rows[:1])


def _alpaca(folder: Path) -> None:
    rows = [
        {"instruction": "Name a colour.", "input": "", "output": "Red.", "text": "Below is ..."},
        {"instruction": "Translate to German.", "input": "a circle", "output": "ein Kreis", "text": "Below is ..."},
        {"instruction": "Count to three.", "input": "", "output": "1 2 3", "text": "Below is ..."},
    ]
    (folder / "alpaca_data.json").write_text(json.dumps(rows, indent=1))


def _mmstar(folder: Path) -> None:
    rows = [
        {
            "index": i, "question": f"What is at place {i}?\nOptions: A: A circle, red, B: A square, C: Nothing, D: A star",
            "image": png(i), "answer": "A", "category": "coarse perception", "l2_category": "image scene",
            "meta_info": {"source": "X", "split": "val", "image_path": f"images/{i}.jpg"},
        }
        for i in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "mmstar.parquet", rows)


def mmmu_row(id_: str, question: str, options: str, images: dict[int, int], kind: str = "multiple-choice") -> dict[str, Any]:
    pictures = {f"image_{n}": embedded(images[n], f"{id_}_{n}.png") if n in images else None for n in range(1, 8)}
    return {"id": id_, "question": question, "options": options, "explanation": "", **pictures, "img_type": "['Diagrams']",
            "answer": "A", "topic_difficulty": "Easy", "question_type": kind, "subfield": "General"}  # fmt: skip


def _mmmu(folder: Path) -> None:
    art = mmmu_row(
        "validation_Art_1", "Which follows <image 1>?", "['<image 2>', \"it's <image 3>\", 'none']", {1: 1, 2: 2, 3: 3}
    )
    rest = [
        mmmu_row("validation_Math_2", "<image 1> What is shown? Look at <image 1> again.", "['a', 'b']", {1: 4}),
        mmmu_row("validation_Math_10", "How many things are in <image 1>?", "[]", {1: 5}, "open"),
    ]
    write_parquet(folder / "Art" / "validation-00000-of-00001.parquet", [art])
    write_parquet(folder / "Math" / "validation-00000-of-00001.parquet", rest)
    write_parquet(folder / "Math" / "test-00000-of-00001.parquet", rest[:1])


def _chartqa(folder: Path) -> None:
    rows = [{"image": embedded(i), "query": f"What is value {i}?", "label": [str(i)], "human_or_machine": i % 2}
            for i in range(ROWS)]  # fmt: skip
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", rows)


def _textvqa(folder: Path) -> None:
    rows = [
        {
            "image_id": f"{i:016x}", "question_id": 34602 + i, "question": f"what does sign {i} say?", "image": embedded(i),
            "question_tokens": ["what"], "image_width": 64, "image_height": 64, "flickr_original_url": "",
            "answers": ["stop"] * 10, "image_classes": ["Sign"], "set_name": "val", "ocr_tokens": ["STOP"],
        }
        for i in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "data" / "validation-00000-of-00003.parquet", rows)


def _docvqa(folder: Path) -> None:
    rows = [
        {
            "questionId": str(49153 + i), "question": f"What is line {i}?", "question_types": ["handwritten", "form"],
            "image": embedded(i), "docId": i, "ucsf_document_id": "pybv0228", "ucsf_document_page_no": "81",
            "answers": ["x"], "data_split": "val",
        }
        for i in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "DocVQA" / "validation-00000-of-00006.parquet", rows)
    write_parquet(folder / "InfographicVQA" / "validation-00000-of-00006.parquet", rows)


def _coco_captions(folder: Path) -> None:  # COCO's own layout
    names = [f"COCO_val2014_{i:012d}.jpg" for i in range(ROWS)]
    images = [
        {"license": 1, "file_name": name, "coco_url": f"http://images.cocodataset.org/val2014/{name}", "height": 64,
         "width": 64, "date_captured": "2013-11-14 11:18:45", "flickr_url": "", "id": i}
        for i, name in enumerate(names)
    ]  # fmt: skip
    captions = [{"image_id": i % ROWS, "id": i, "caption": "A thing."} for i in range(5 * ROWS)]
    document = {"info": {}, "images": images, "licenses": [], "annotations": captions}
    (folder / "annotations").mkdir()
    (folder / "annotations" / "captions_val2014.json").write_text(json.dumps(document))
    (folder / "val2014").mkdir()
    for i, name in enumerate(names):
        (folder / "val2014" / name).write_bytes(png(i))


def _mathvista(folder: Path) -> None:
    def row(pid: int, language: str, question: str, choices: list[str] | None) -> dict[str, Any]:
        metadata = {
            "category": "math-targeted-vqa", "context": "scene", "grade": "daily life", "img_height": 64, "img_width": 64,
            "language": language, "skills": ["arithmetic"], "source": "X", "split": "testmini", "task": "figure QA",
        }  # fmt: skip
        lines = [f"({letter}) {choice}" for letter, choice in zip("ABCD", choices or [], strict=False)]
        query = "\n".join(["Hint: Please answer.", f"Question: {question}", *(["Choices:", *lines] if choices else [])])
        return {"pid": str(pid), "question": question, "image": f"images/{pid}.jpg", "decoded_image": embedded(pid),
                "choices": choices, "unit": None, "precision": 1.0, "answer": "2", "question_type": "multi_choice",
                "answer_type": "text", "metadata": metadata, "query": query}  # fmt: skip

    rows = [row(1, "english", "How many?", ["1", "2"]), row(2, "chinese", "有几个?", None), row(10, "persian", "چند تا؟", None)]
    write_parquet(folder / "data" / "testmini-00000-of-00001-725687bf7a18d64b.parquet", rows)
    plain = [{key: value for key, value in row.items() if key != "decoded_image"} for row in rows]
    (folder / "annot_testmini.json").write_text(json.dumps({row["pid"]: row for row in plain}, indent=1))


MMSPEC_TOPICS = (
    "general vqa", "text vqa", "image captioning", "chart understanding", "complex reasoning pro", "multi-turn conversation",
)  # fmt: skip


def _mmspec(folder: Path) -> None:
    rows = []
    for number, topic in enumerate(MMSPEC_TOPICS):
        for i in range(ROWS):
            id_ = f"mmspec_{100 * number + i + 1:03d}"
            turns = [f"About <image 1>: {topic} {i}?\nOptions: ['a', 'b']"]
            turns += ["And why?", "Write a poem."] if topic.startswith("multi") else []
            rows.append({"id": id_, "image": f"{id_}.jpg", "turns": turns, "category": "default", "topic": topic})
            (folder / "test" / "images").mkdir(parents=True, exist_ok=True)
            (folder / "test" / "images" / f"{id_}.jpg").write_bytes(png(100 * number + i))
    write_jsonl(folder / "test" / "mmspec.jsonl", rows)
    write_jsonl(folder / "testmini" / "mmspec.jsonl", rows[:1])


WRITERS: dict[str, Callable[[Path], None]] = {
    "mt-bench": _mt_bench, "mt-bench-zh": _mt_bench_zh, "gsm8k": _gsm8k, "gsm8k-100": _gsm8k, "humaneval": _humaneval,
    "math500": _math500, "ceval": _ceval, "ceval-104": _ceval_parquet, "cmmlu": _cmmlu, "alpaca": _alpaca, "mmstar": _mmstar,
    "mmmu": _mmmu, "chartqa": _chartqa, "textvqa": _textvqa, "docvqa": _docvqa, "coco-captions": _coco_captions,
    "mathvista": _mathvista, "mmspec-gqa": _mmspec, "mmspec-textvqa": _mmspec, "mmspec-coco": _mmspec,
    "mmspec-charxiv": _mmspec, "mmspec-mmmu-pro": _mmspec, "mmspec-multi-turn": _mmspec,
}  # fmt: skip
