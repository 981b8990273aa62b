"""Generated text tasks: arithmetic in steps, sorting, small code, and the same kind of thing in Chinese."""

import random

from vlm_eagle.demo.questions import QA

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo")
ITEMS = ("apples", "books", "coins", "pencils", "stamps", "marbles")
NAMES_ZH = ("小明", "小红", "小刚", "小丽", "小华")
ITEMS_ZH = ("苹果", "铅笔", "书", "糖果", "邮票")


def _column_addition(a: int, b: int) -> tuple[list[str], int]:
    steps, carry, place = [], 0, ("ones", "tens", "hundreds")
    digits = max(len(str(a)), len(str(b)))
    for i in range(digits):
        x, y = a // 10**i % 10, b // 10**i % 10
        total = x + y + carry
        carried = f" + {carry}" if carry else ""
        steps.append(f"{place[i]}: {x} + {y}{carried} = {total}")
        carry = total // 10
    return steps, a + b


def arithmetic(rng: random.Random) -> QA:
    """Addition by columns, multiplication by parts, or a small word problem with one of them."""
    kind = rng.randrange(4)
    a, b = rng.randint(11, 499), rng.randint(11, 499)
    if kind == 0:
        steps, total = _column_addition(a, b)
        question = rng.choice([f"What is {a} + {b}?", f"Calculate {a} + {b} step by step."])
        return QA(question, f"Add {a} and {b} by columns.\n" + "\n".join(steps) + f"\nThe answer is {total}.")
    if kind == 1:
        a, b = rng.randint(11, 99), rng.randint(2, 9)
        tens, ones = a // 10 * 10, a % 10
        answer = (
            f"Split {a} into {tens} and {ones}.\n{tens} * {b} = {tens * b}\n{ones} * {b} = {ones * b}\n"
            f"{tens * b} + {ones * b} = {a * b}\nThe answer is {a * b}."
        )
        return QA(rng.choice([f"What is {a} * {b}?", f"Calculate {a} * {b} step by step."]), answer)
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    if kind == 2:
        a, b = rng.randint(11, 99), rng.randint(11, 99)
        steps, total = _column_addition(a, b)
        question = f"{name} has {a} {item} and gets {b} more. How many {item} does {name} have now?"
        answer = (
            f"{name} starts with {a} {item} and gets {b} more, so we add {a} and {b}.\n"
            + "\n".join(steps)
            + f"\n{name} now has {total} {item}. The answer is {total}."
        )
        return QA(question, answer)
    numbers = [rng.randint(1, 99) for _ in range(rng.randint(3, 6))]
    ordered = sorted(numbers)
    steps = [f"Step {i}: take {value}." for i, value in enumerate(ordered, 1)]
    listed = ", ".join(map(str, numbers))
    return QA(
        f"Sort these numbers: {listed}",
        f"Pick the smallest number each time from {listed}.\n"
        + "\n".join(steps)
        + f"\nThe sorted list is {', '.join(map(str, ordered))}.",
    )


_FOLDS = {
    "sum": ("sum", "0", "{acc} += {x}"),
    "product": ("product", "1", "{acc} *= {x}"),
    "number": ("count", "0", "{acc} += 1"),
    "sum of the squares": ("sum_of_squares", "0", "{acc} += {x} * {x}"),
}
_TESTS = {
    "even": ("even", "{x} % 2 == 0"),
    "odd": ("odd", "{x} % 2 == 1"),
    "positive": ("positive", "{x} > 0"),
    "negative": ("negative", "{x} < 0"),
}


def code(rng: random.Random) -> QA:
    """A small Python function over a list, or a check of one number, with one sentence about it."""
    values, x = rng.choice(["numbers", "values", "items"]), rng.choice(["n", "x", "item"])
    if rng.random() < 0.7:
        fold = rng.choice(list(_FOLDS))
        test = rng.choice([*_TESTS, None])
        verb, start, update = _FOLDS[fold]
        acc = "total" if start == "0" and verb != "count" else "count" if verb == "count" else "result"
        which = f"{test} {values}" if test else values
        name = f"{verb}_{_TESTS[test][0]}_{values}" if test else f"{verb}_{values}"
        inner = "        " + update.format(acc=acc, x=x)
        if test:
            inner = f"        if {_TESTS[test][1].format(x=x)}:\n    {inner}"
        body = f"def {name}({values}):\n    {acc} = {start}\n    for {x} in {values}:\n{inner}\n    return {acc}"
        about = f"The function goes through the {values} and returns the {fold} of the {which}."
        question = f"Write a Python function that returns the {fold} of the {which} in a list called {values}."
        question = question.replace(f"{values} in a list called {values}", f"{values} in a list")
    else:
        best, sign = rng.choice([("largest", ">"), ("smallest", "<")])
        body = (
            f"def {best}_of_{values}({values}):\n    best = {values}[0]\n    for {x} in {values}:\n"
            f"        if {x} {sign} best:\n            best = {x}\n    return best"
        )
        about = f"The function keeps the {best} element seen so far and returns it."
        question = f"Write a Python function that finds the {best} of the {values} in a list."
    if rng.random() < 0.4:
        return QA(question + " Only the code.", f"```python\n{body}\n```")
    return QA(question, f"Here is the function:\n```python\n{body}\n```\n{about}")


def chinese(rng: random.Random) -> QA:
    """Sums and small word problems in Chinese."""
    kind = rng.randrange(3)
    a, b = rng.randint(11, 99), rng.randint(11, 99)
    if kind == 0:
        tens, ones = b // 10 * 10, b % 10
        answer = f"把{b}分成{tens}和{ones}。\n{a} + {tens} = {a + tens}\n{a + tens} + {ones} = {a + b}\n所以答案是{a + b}。"
        return QA(rng.choice([f"{a}加{b}等于多少?", f"请计算{a} + {b}。"]), answer)
    name, item = rng.choice(NAMES_ZH), rng.choice(ITEMS_ZH)
    if kind == 1:
        low, high = sorted((a, b))
        question = f"{name}有{high}个{item},送给朋友{low}个,还剩多少个?"
        answer = (
            f"{name}原来有{high}个{item},送出{low}个,所以用减法。\n"
            f"{high} - {low} = {high - low}\n{name}还剩{high - low}个{item}。"
        )
        return QA(question, answer)
    total = a + b
    question = f"{name}昨天买了{a}个{item},今天又买了{b}个,一共有多少个?"
    answer = f"昨天买了{a}个{item},今天买了{b}个{item},所以用加法。\n{a} + {b} = {total}\n{name}一共有{total}个{item}。"
    return QA(question, answer)
