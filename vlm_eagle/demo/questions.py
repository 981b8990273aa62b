"""Questions about scenes with the answers a careful viewer would write, in English and Chinese.

The wording of the question decides the form of the answer (list, sentence, short), as an instruction does for a real
model; a few free choices of wording remain, so that an answer is predictable but not a formula.
"""

import random
from typing import NamedTuple

from vlm_eagle.demo.scenes import COLORS, PLACES, SHAPES, Scene, Thing


class QA(NamedTuple):
    """One question and its reference answer."""

    question: str
    answer: str


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS_ZH = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
COLORS_ZH = dict(zip(COLORS, ("红色", "绿色", "蓝色", "黄色", "紫色", "橙色", "黑色", "粉色"), strict=True))
SHAPES_ZH: dict[str, str] = dict(zip(SHAPES, ("圆形", "正方形", "三角形", "星形", "十字形", "圆环"), strict=True))
SIZES_ZH = {"small": "小", "large": "大"}
PLACES_ZH: dict[str, str] = dict(
    zip(PLACES, ("左上角", "上方", "右上角", "左侧", "中央", "右侧", "左下角", "下方", "右下角"), strict=True)
)


def noun(thing: Thing) -> str:
    """`large red circle`"""
    return f"{thing.size} {thing.color} {thing.shape}"


def noun_zh(thing: Thing) -> str:
    """`大的红色圆形`"""
    return f"{SIZES_ZH[thing.size]}的{COLORS_ZH[thing.color]}{SHAPES_ZH[thing.shape]}"


def _a(text: str) -> str:
    return ("an " if text[0] in "aeiou" else "a ") + text


def _where(place: str) -> str:
    return "in the center" if place == "center" else f"at the {place}" if " " in place else f"on the {place} side"


def _count(n: int, noun_: str) -> str:
    plural = noun_ if n == 1 else noun_ + ("es" if noun_.endswith("s") else "s")
    return f"{NUMBERS[n]} {plural}"


def describe(scene: Scene, rng: random.Random) -> QA:
    """A description of everything, in one of four forms."""
    things, n = scene.things, len(scene.things)
    form = rng.randrange(4)
    if form == 0:
        question = rng.choice(["Describe this image.", "Describe the picture.", "What do you see in this image?"])
        verb = "is" if n == 1 else "are"
        parts = [f"There {verb} {_count(n, 'shape')} in the image."]
        parts += [f"{_where(t.place).capitalize()} there is {_a(noun(t))}." for t in things]
        answer = " ".join(parts)
    elif form == 1:
        question = rng.choice(["List all the shapes.", "Make a list of the objects in the picture."])
        answer = "\n".join([f"The picture contains {_count(n, 'object')}:"] + [f"- {noun(t)}, {t.place}" for t in things])
    elif form == 2:
        question = rng.choice(["Describe the image in detail.", "Tell me about this picture in detail."])
        opening = rng.choice(["This is a simple drawing with", "The picture shows a plain background with"])
        parts = [f"{opening} {_count(n, 'shape')}."]
        for i, t in enumerate(things):
            lead = "The first one" if i == 0 else "The last one" if i == n - 1 else "The next one"
            parts.append(f"{lead} is {_a(noun(t))}, which can be found {_where(t.place)}.")
        parts.append(_summary(scene))
        answer = " ".join(parts)
    else:
        question = rng.choice(["Give a short caption.", "Write a caption for this image."])
        names = [_a(noun(t)) for t in things]
        joined = names[0] if n == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        answer = f"A drawing of {joined}."
    return QA(question, answer)


def _summary(scene: Scene) -> str:
    large = sum(t.size == "large" for t in scene.things)
    if large == len(scene.things):
        return "Everything in the picture is large."
    if large == 0:
        return "Everything in the picture is small."
    return f"In total, {large} of them {'is' if large == 1 else 'are'} large and {len(scene.things) - large} small."


def ask(scene: Scene, rng: random.Random) -> QA:
    """A question about one thing, or a count."""
    thing = rng.choice(scene.things)
    kind = rng.choice(["color", "what", "where", "count", "count_color", "exists", "size"])
    where = _where(thing.place)
    if kind == "color":
        return QA(f"What color is the object {where}?", f"The object {where} is {thing.color}. It is {_a(noun(thing))}.")
    if kind == "what":
        return QA(f"What is {where} of the image?", f"{where.capitalize()} of the image there is {_a(noun(thing))}.")
    if kind == "where":
        same = [t for t in scene.things if t.shape == thing.shape and t.color == thing.color]
        places = " and ".join(_where(t.place) for t in same)
        verb = "is" if len(same) == 1 else "are"
        plural = thing.shape if len(same) == 1 else _count(2, thing.shape).split()[1]
        return QA(
            f"Where is the {thing.color} {thing.shape}?",
            f"The {thing.color} {plural} {verb} {places} of the image.",
        )
    if kind == "count":
        n = len(scene.things)
        listing = ", ".join(noun(t) for t in scene.things)
        return QA(
            rng.choice(["How many shapes are there?", "Count the objects in the image."]),
            f"Counting them one by one: {listing}. That makes {_count(n, 'shape')} in total.",
        )
    if kind == "count_color":
        same = [t for t in scene.things if t.color == thing.color]
        found = " and ".join(_where(t.place) for t in same)
        verb = "is" if len(same) == 1 else "are"
        return QA(
            f"How many {thing.color} objects are there?",
            f"There {verb} {_count(len(same), thing.color + ' object')} in the image: {found}.",
        )
    if kind == "size":
        return QA(
            f"Is the object {where} large or small?",
            f"The object {where} is {thing.size}. It is {_a(noun(thing))}.",
        )
    color = rng.choice(list(COLORS))
    present = [t for t in scene.things if t.color == color]
    if present:
        return QA(f"Is there anything {color}?", f"Yes, there is {_a(noun(present[0]))} {_where(present[0].place)}.")
    others = sorted({t.color for t in scene.things}, key=list(COLORS).index)
    return QA(f"Is there anything {color}?", f"No, nothing is {color}. I only see {' and '.join(others)} in the image.")


def describe_zh(scene: Scene, rng: random.Random) -> QA:
    """A description in Chinese, in one of two forms."""
    n = len(scene.things)
    if rng.random() < 0.6:
        question = rng.choice(["请描述这张图片。", "图片里有什么?", "描述一下这幅图。"])
        parts = [f"{PLACES_ZH[t.place]}有一个{noun_zh(t)}" for t in scene.things]
        return QA(question, f"图中一共有{NUMBERS_ZH[n]}个图形。" + ",".join(parts) + "。")
    question = rng.choice(["请列出所有图形。", "列出图片中的物体。"])
    lines = [f"{i}. {noun_zh(t)},位于{PLACES_ZH[t.place]}" for i, t in enumerate(scene.things, 1)]
    return QA(question, f"图片中有{NUMBERS_ZH[n]}个物体:\n" + "\n".join(lines))


def ask_zh(scene: Scene, rng: random.Random) -> QA:
    """A question about one thing, or a count, in Chinese."""
    thing = rng.choice(scene.things)
    place = PLACES_ZH[thing.place]
    kind = rng.randrange(3)
    if kind == 0:
        return QA(f"图片{place}是什么?", f"图片{place}是一个{noun_zh(thing)}。")
    if kind == 1:
        return QA(f"{place}的物体是什么颜色?", f"{place}的物体是{COLORS_ZH[thing.color]}的,它是一个{noun_zh(thing)}。")
    listing = "、".join(noun_zh(t) for t in scene.things)
    return QA("图中有几个图形?", f"逐个数一下:{listing}。一共有{NUMBERS_ZH[len(scene.things)]}个图形。")


def compare(scenes: list[Scene], rng: random.Random) -> QA:
    """A question over two or three images: captions in order, or which one holds more."""
    counts = [len(s.things) for s in scenes]
    if rng.random() < 0.5:
        lines = [f"Image {i}: {', '.join(noun(t) for t in s.things)}." for i, s in enumerate(scenes, 1)]
        return QA(rng.choice(["Describe each image.", "What does each picture show?"]), "\n".join(lines))
    ordinal = ("first", "second", "third")
    parts = [f"The {ordinal[i]} image has {_count(c, 'shape')}" for i, c in enumerate(counts)]
    most = [i for i, c in enumerate(counts) if c == max(counts)]
    verdict = f"so the {ordinal[most[0]]} image has the most shapes" if len(most) == 1 else "so no single image has the most"
    return QA("Which image has the most shapes?", ". ".join(parts) + f", {verdict}.")
