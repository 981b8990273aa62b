"""Small local copies of every source in its true schema: field names, nesting, and the oddities its rows have."""

import base64
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SUBJECTS = ("whales", "glass", "trains", "bread", "volcanoes", "chess", "tides", "violins", "moss", "bridges")


def picture(color: str, kind: str = "PNG", size: tuple[int, int] = (32, 24)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, kind)
    return stream.getvalue()


def question(i: int) -> str:
    subject = SUBJECTS[i % len(SUBJECTS)]
    return f"Question {i}: what should a beginner know about {subject}, and why does it matter to item number {i * 7919}?"


def answer(i: int) -> str:
    subject = SUBJECTS[i % len(SUBJECTS)]
    numbers = " ".join(f"fact {i * 31 + k} says {SUBJECTS[(i * k + k) % 10]} {i + k * k}" for k in range(8))
    return f"In case {i} the most important thing about {subject} is this: {numbers}."


def chinese(i: int) -> tuple[str, str]:
    facts = "，".join(f"第{i * 17 + k}条说明了{'海山云雨风雪花草木石'[(i + k) % 10]}的特点{i * k}" for k in range(6))
    return f"请问第{i}个问题应该怎么回答？请你详细解释一下原因。", f"关于第{i}个问题，我们可以这样理解：{facts}。"


def chat(i: int, turns: int = 1) -> list[dict]:
    return [
        {"from": who, "value": text}
        for turn in range(turns)
        for who, text in (("human", question(i * 10 + turn)), ("gpt", answer(i * 10 + turn)))
    ]


def write(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in value))
    elif file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(value), file)
    else:
        file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return file


def zipped(file: Path, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def sharegpt(folder: Path, file: str = "ShareGPT_V4.3_unfiltered_cleaned_split.json", n: int = 6) -> int:
    """n rows are good; besides them one piece opens with an answer, one has no answer, one is HTML."""
    rows = [{"id": f"conv{i}_0", "conversations": chat(i, 1 + i % 3)} for i in range(n)]
    rows.append({"id": "conv0_5", "conversations": [{"from": "gpt", "value": "... as I said."}, *chat(90)]})
    rows.append({"id": "i6IyJda_0", "conversations": [{"from": "human", "value": "Are you there?"}]})
    rows.append(
        {"id": "html_0", "conversations": [chat(91)[0], {"from": "gpt", "value": '<div class="markdown"><p>Yes</p></div>'}]}
    )
    write(folder / file, rows)
    return n + 1


def sharegpt_zh_en(folder: Path, n: int = 5) -> int:
    """Pairs, two languages in two files; one conversation ends with a question."""
    pairs = [dict(zip(("human", "assistant"), chinese(i), strict=True)) for i in range(n)]
    rows = [{"conversation_id": str(i), "category": "Brainstorming", "conversation": [pair]} for i, pair in enumerate(pairs)]
    rows[0]["conversation"].append({"human": "还有呢？", "assistant": None})
    write(folder / "sharegpt_jsonl/common_zh_70k.jsonl", rows)
    english = [{"human": question(500 + i), "assistant": answer(500 + i)} for i in range(n)]
    rows = [{"conversation_id": f"e{i}", "category": "Coding", "conversation": [pair]} for i, pair in enumerate(english)]
    write(folder / "sharegpt_jsonl/common_en_70k.jsonl", rows)
    return 2 * n


def ultrachat(folder: Path, split: str = "train_sft", n: int = 5, start: int = 100) -> int:
    rows = []
    for i in range(start, start + n):
        messages = [{"content": m["value"], "role": {"human": "user", "gpt": "assistant"}[m["from"]]} for m in chat(i, 2)]
        rows.append({"prompt": messages[0]["content"], "prompt_id": f"{i:064x}", "messages": messages})
    write(folder / f"data/{split}-00000-of-00003-a3ecf92756993583.parquet", rows)
    write(folder / "data/test_sft-00000-of-00001.parquet", rows[:1])
    return n


def perfectblend(folder: Path, n: int = 5) -> int:
    rows = [{"conversations": chat(200 + i), "source": "meta-math/MetaMathQA"} for i in range(n)]
    rows[0]["conversations"].insert(0, {"from": "system", "value": "You are a helpful assistant."})
    write(folder / "data/train-00000-of-00006.parquet", rows)
    return n


def eaglechat(folder: Path, n: int = 5) -> int:
    rows = []
    for i in range(n):
        asked, answered = chinese(50 + i) if i % 2 else (question(300 + i), answer(300 + i))
        rows.append(
            {"id": f"{i}", "conversations": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}
        )
    write(folder / "EagleChat.jsonl", rows)
    return n


def allava(folder: Path, subset: str = "allava_laion", kind: str = "Caption-LAION", n: int = 4, start: int = 400) -> int:
    """Rows name a folder that exists only after unpacking; the last picture is missing."""
    rows, members = [], {}
    for i in range(start, start + n):
        name = f"{subset}/images/1002{i}.jpeg"
        asked = {"from": "human", "value": f"<image>\n{question(i)}"}
        rows.append(
            {"id": f"{subset}_cap_{i}", "image": name, "conversations": [asked, chat(i)[1]], "url": "https://example.org/1.jpg"}
        )
        members[f"images/1002{i}.jpeg"] = picture(f"#{i * 321:06x}", "JPEG")
    rows.append({**rows[0], "image": f"{subset}/images/nowhere.jpeg"})
    write(folder / f"{subset}/ALLaVA-{kind}-4V.json", rows)
    if subset == "allava_laion":
        zipped(folder / f"{subset}/image_chunks/images_{start % 10}.zip", members)
    else:
        for name, data in members.items():
            (folder / subset / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / subset / name).write_bytes(data)
    return n


def llava_pretrain(folder: Path, n: int = 4) -> int:
    rows, members = [], {}
    for i in range(n):
        name = f"0045{i}/00453{i}.jpg"
        asked = ["Give a brief description of the image.\n<image>", "<image>\nProvide a one-sentence caption."][i % 2]
        said = f"{SUBJECTS[i]} on a table, stock photo {i * 977}"
        rows.append(
            {
                "id": f"00453{i}",
                "image": name,
                "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}],
            }
        )
        members[name] = picture(f"#{i * 999:06x}", "JPEG")
    write(folder / "blip_laion_cc_sbu_558k.json", rows)
    write(
        folder / "blip_laion_cc_sbu_558k_meta.json",
        [{"id": "1", "image": "x", "caption": "c", "blip_caption": "b", "url": "u"}],
    )
    zipped(folder / "images.zip", members)
    return n


def llava_onevision(folder: Path, n: int = 4, start: int = 600) -> int:
    """Pictures inside the rows; one row is text only, one has no <image> in its text."""
    from datasets import Dataset, Features, Image, List, Value

    rows = []
    for i in range(start, start + n):
        asked = {"from": "human", "value": f"<image>\n{question(i)}"}
        image = {"bytes": picture(f"#{i * 123:06x}"), "path": f"{i}.png"}
        rows.append({"id": str(i), "image": image, "conversations": [asked, chat(i)[1]], "data_source": "textocr(gpt4v)"})
    rows.append({"id": "text", "image": None, "conversations": chat(start + n), "data_source": "textocr(gpt4v)"})
    rows.append({**rows[0], "id": "bare", "conversations": chat(start + n + 1)})
    turn = {"from": Value("string"), "value": Value("string")}
    features = Features({"id": Value("string"), "image": Image(), "conversations": List(turn), "data_source": Value("string")})
    file = folder / "textocr(gpt4v)/train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(file)
    return n + 2


def coco_captions(folder: Path, n: int = 3) -> int:
    """The two tables of captions_train2017.json; one picture has no caption, one annotation no picture."""
    images = [
        {"license": 3, "file_name": f"{i:012d}.jpg", "coco_url": "http://images.cocodataset.org/x", "id": i}
        for i in range(n + 1)
    ]
    said = [f"A photo of {SUBJECTS[i]} near {SUBJECTS[(i + k) % 10]} number {i * k}." for i in range(n) for k in range(5)]
    annotations = [{"image_id": i // 5, "id": 1000 + i, "caption": text} for i, text in enumerate(said)]
    annotations.append({"image_id": 77, "id": 1, "caption": "Of nothing."})
    tables = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    write(folder / "annotations/captions_train2017.json", tables)
    zipped(folder / "train2017.zip", {f"train2017/{i:012d}.jpg": picture(f"#{i * 4321:06x}", "JPEG") for i in range(n + 1)})
    return n


def format_messages(folder: Path) -> int:
    (folder / "images").mkdir(parents=True)
    (folder / "images/1.png").write_bytes(picture("red"))
    by_path = {"type": "image", "image": "images/1.png"}
    data_url = "data:image/png;base64," + base64.b64encode(picture("blue")).decode()
    by_url = {"type": "image_url", "image_url": {"url": data_url}}
    say = lambda i: {"role": "assistant", "content": answer(i)}
    text = lambda i: {"type": "text", "text": question(i)}
    rows = [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question(1)}, say(1)]},
        {"messages": [{"role": "user", "content": [by_path, text(2)]}, say(2)]},
        {"messages": [{"role": "user", "content": [text(3), by_url]}, say(3)]},
        {
            "messages": [
                {"role": "user", "content": question(4)},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            ]
        },
    ]
    write(folder / "mine.jsonl", rows)
    return 3


def format_llava(folder: Path) -> int:
    (folder / "pictures").mkdir(parents=True)
    for i in range(2):
        (folder / f"pictures/{i}.webp").write_bytes(picture(f"#{i * 70000:06x}", "WEBP"))
    both = [{"from": "human", "value": f"First <image>\nthen <image>\n{question(7)}"}, chat(7)[1]]
    write(
        folder / "mine.json",
        [{"image": ["pictures/0.webp", "pictures/1.webp"], "conversations": both}, {"conversations": chat(8)}],
    )
    return 2


def format_sharegpt(folder: Path) -> int:
    write(folder / "mine.jsonl", [{"conversations": chat(i)} for i in range(3)])
    return 3


WRITERS = {
    "sharegpt": sharegpt,
    "sharegpt-zh-en": sharegpt_zh_en,
    "ultrachat": ultrachat,
    "ultrachat-gen": lambda folder: ultrachat(folder, "train_gen", start=150),
    "perfectblend": perfectblend,
    "eaglechat": eaglechat,
    "allava-caption": allava,
    "allava-instruct": lambda folder: allava(folder, kind="Instruct-LAION", start=420),
    "allava-vflan-caption": lambda folder: allava(folder, "allava_vflan", "Caption-VFLAN", start=440),
    "allava-vflan-instruct": lambda folder: allava(folder, "allava_vflan", "Instruct-VFLAN", start=460),
    "llava-pretrain": llava_pretrain,
    "llava-onevision": llava_onevision,
    "coco-captions": coco_captions,
    "format-sharegpt": format_sharegpt,
    "format-messages": format_messages,
    "format-llava": format_llava,
}
