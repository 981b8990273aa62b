"""The report as a person meets it: opened in a headless Chromium, narrow and wide, light and dark, by mouse and by keyboard.

`make chromium` installs the browser where apt can; without one these tests are skipped.
"""

import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from report_results import hostile, invent

from vlm_eagle.commands.report import Config, main


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The report of 500 samples, half with photographs, under three settings."""
    return made(tmp_path_factory.mktemp("large"), prompts=500, depths=(3, 7, 15), length=300, side=448)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return made(tmp_path_factory.mktemp("small"), prompts=60, length=30)


def made(folder, **options):
    file = folder / "report.html"
    main(Config(results=[str(invent(folder, **options))], out=str(file)))
    return file


@pytest.fixture
def visit(browser):
    """Opens a report: (page, what went wrong or left the page so far)."""
    pages = []

    def open_page(file, width=1600, scheme="light", **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        wrong = []
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        page.on(
            "request", lambda r: None if r.url.startswith("data:image/webp") or r.url == file.as_uri() else wrong.append(r.url)
        )
        pages.append(page)
        page.goto(file.as_uri())
        return page, wrong

    yield open_page
    for page in pages:
        page.close()


def data_of(file):
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', file.read_text(encoding="utf-8"), re.S)
    return json.loads(block)


def heads(page):
    return page.eval_on_selector_all(".sample h3", "all => all.map(e => e.textContent)")


@pytest.mark.slow
def test_five_hundred_samples_stay_below_10_mb(large):
    assert large.stat().st_size < 10_000_000
    data = data_of(large)
    assert len(data["samples"]) == 500
    assert len(data["pictures"]) == 250
    assert all(data["pictures"])
    assert all(len(sample["a"]) == 1 for sample in data["samples"])  # equal answers are stored once for all settings


@pytest.mark.parametrize("width", [400, 1600])
def test_five_hundred_samples_open_in_two_seconds(visit, large, width):
    """From the request to the load event with the first samples in place; a busy machine gets three tries."""
    seconds = []
    for _ in range(3):
        page, wrong = visit(large, width)
        assert page.locator(".sample").count() == 24
        assert wrong == []
        seconds.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
        if seconds[-1] < 2:
            break
    assert 0 < min(seconds) < 2, seconds


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (400, "light"), (400, "dark"), (800, "light"), (1600, "dark")])
def test_nothing_sticks_out(visit, large, width, scheme):
    """No sideways scrolling of the page, no text cut off or laid over its box, at any width; tables scroll in their own box."""
    page, wrong = visit(large, width, scheme)
    for details in page.locator("details").all():
        details.evaluate("e => { e.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    out = page.evaluate(
        """width => [...document.querySelectorAll('body *')].filter(e => {
            if (e.closest('.scroller') && !e.matches('.scroller')) return false;
            if (e.closest('svg, .skip, option')) return false;
            const box = e.getBoundingClientRect();
            return box.width && (box.right > width + 1 || box.left < -1);
        }).map(e => e.outerHTML.slice(0, 90) + " " + e.getBoundingClientRect().right)""",
        width,
    )
    assert out == []
    small_text = page.evaluate(
        """() => [...document.querySelectorAll('svg.chart text')].map(
            e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)"""
    )
    assert small_text
    assert min(small_text) > (11 if width >= 400 else 8)  # pixels: labels of charts can be read
    assert wrong == []


def test_dark_follows_the_system(visit, small):
    def grounds(page):
        read = "s => getComputedStyle(document.querySelector(s)).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        return {s: sum(page.evaluate(read, s)) / 3 for s in ("body", ".sample", ".scroller", "select", ".tok.d")}

    light, dark = (grounds(visit(small, scheme=scheme)[0]) for scheme in ("light", "dark"))
    assert all(value > 190 for value in light.values()), light
    assert all(value < 80 for value in dark.values()), dark


def test_every_token_is_marked_by_who_wrote_it(visit, small):
    data, (page, _) = data_of(small), visit(small)
    number = data["settings"].index("chain of 8 (vLLM: 7)")
    page.select_option("#setting", str(number))
    shown = page.eval_on_selector_all(
        ".sample",
        "all => all.map(e => [...e.querySelectorAll('.tok')].map(t => [t.textContent, t.className, +t.dataset.forward]))",
    )
    assert len(shown) == 24
    kinds = Counter()
    for sample, tokens in zip(data["samples"], shown, strict=False):
        (result,) = [r for r in sample["r"] if r[0] == number]
        _, answer, committed, accepted, _ = result
        expected = [(0, "f")]
        for forward, (count, kept) in enumerate(zip(committed, accepted, strict=True), 1):
            expected += [(forward, "d" if i < kept else "b") for i in range(count)]
        assert [text.replace("⏎\n", "\n") for text, _, _ in tokens] == sample["a"][answer]
        assert [(forward, name.split()[1]) for _, name, forward in tokens] == expected
        kinds.update(kind for _, kind in expected)
    assert min(kinds[k] for k in "fdb") > 20
    looks = page.evaluate(
        """() => Object.fromEntries(['f', 'd', 'b'].map(kind => {
            const style = getComputedStyle(document.querySelector('.answer .tok.' + kind));
            return [kind, [style.backgroundColor !== 'rgba(0, 0, 0, 0)', style.boxShadow.replace(/rgb[^)]*[)] /, '')]];
        }))"""
    )
    # told apart without colour: outline, fill, underline
    assert looks == {"f": [False, "0px 0px 0px 2px inset"], "d": [True, "none"], "b": [False, "0px -3px 0px 0px inset"]}


def test_filter_order_and_search(visit, small):
    data, (page, wrong) = data_of(small), visit(small)
    tau = {f"{s['b']} · {s['id']}": {r[0]: sum(r[2]) / max(len(r[2]), 1) for r in s["r"]} for s in data["samples"]}
    start = data["start"]
    assert heads(page) == list(tau)[:24]
    page.locator("#benchmark").select_option(label="chinese")
    assert page.locator("#count").inner_text() == "15 of 15 samples shown"
    assert all(head.startswith("chinese · ") for head in heads(page))
    assert not page.locator("#more").is_visible()
    page.locator("#order").select_option("low")
    assert heads(page) == sorted((h for h in tau if h.startswith("chinese")), key=lambda h: tau[h][start])
    page.locator("#benchmark").select_option(label="all 4")
    page.locator("#order").select_option("high")
    best = heads(page)
    assert [tau[h][start] for h in best] == sorted((t[start] for t in tau.values()), reverse=True)[:24]
    page.locator("#order").select_option("long")
    page.locator("#setting").select_option("0")
    lengths = [int(m) for m in re.findall(r"(\d+) tokens? in", " ".join(page.locator(".meta").all_inner_texts()))]
    assert lengths == sorted(lengths, reverse=True)
    page.locator("#search").fill("question 7?")
    page.locator(".sample").nth(1).wait_for(state="detached")
    assert heads(page) == ["chart · p7"]
    page.locator("#search").fill("no such words")
    page.locator(".sample").first.wait_for(state="detached")
    assert page.locator("#count").inner_text() == "No sample fits."
    assert wrong == []


def test_by_keyboard_alone(visit, small):
    page, _ = visit(small)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
        )
    assert {"setting", "benchmark", "order", "search", "scroller", "answer"} <= reached
    answer = page.locator(".answer").nth(1)
    answer.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    status = page.locator(".status").nth(1)
    page.keyboard.press("ArrowRight")
    assert status.inner_text().startswith("First token, from the prefill")
    page.keyboard.press("ArrowRight")
    assert re.match(r"Forward 1 of \d+: \d+ accepted from the draft", status.inner_text())
    assert set(answer.locator(".now").evaluate_all("all => all.map(e => e.dataset.forward)")) == {"1"}
    page.keyboard.press("End")
    last = re.match(r"Forward (\d+) of (\d+)", status.inner_text())
    assert last[1] == last[2]
    page.keyboard.press("Escape")
    assert status.inner_text() == ""
    more = page.locator("#more")
    more.focus()
    page.keyboard.press("Enter")
    assert page.locator(".sample").count() == 48
    assert page.evaluate("[...document.querySelectorAll('.answer')].indexOf(document.activeElement)") == 24  # goes on there
    more.click()
    assert page.locator(".sample").count() == 60
    assert not more.is_visible()


def test_names_for_everything(visit, small):
    """What a screen reader needs: a language, one h1, headings in order, names of controls, pictures, tables and regions."""
    page, _ = visit(small)
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(e => Number(e.tagName[1]))")
    assert levels.count(1) == 1 == levels[0]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    controls = page.eval_on_selector_all("select, input", "all => all.map(e => e.labels[0].firstChild.textContent.trim())")
    assert controls == ["Setting", "Benchmark", "Order", "Search"]
    assert page.evaluate("[...document.images].length > 5 && [...document.images].every(e => e.alt && e.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('svg.chart')].every(e => e.getAttribute('aria-label'))")
    assert page.evaluate(
        "[...document.querySelectorAll('[role=region], [role=group]')].every(e => e.getAttribute('aria-label'))"
    )
    assert page.evaluate("[...document.querySelectorAll('th')].every(e => ['row', 'col'].includes(e.scope))")
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))")


def test_hostile_text_does_nothing(visit, tmp_path):
    file = tmp_path / "report.html"
    main(Config(results=[str(hostile(tmp_path))], out=str(file)))
    page, wrong = visit(file, 400)
    for name in ("setting", "benchmark", "order"):
        page.select_option(f"#{name}", index=1)
    assert page.title() == "What the draft knows"
    assert wrong == []
    assert page.locator("img, iframe, a[href^=javascript], a[href^=data]").count() == 0
    assert "<img src=x onerror=" in page.locator(".sample .question").first.text_content()
    assert page.locator(".sample .tok").nth(1).text_content() == "<b>"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_an_injected_script_would_not_run(visit, small, tmp_path):
    """The second line of defence: even if markup got through, the page's policy stops it and nothing is fetched."""
    run = "document.title = 'pwned'"
    evil = f"<script>{run}</script><img src='https://example.invalid/x.png' onerror=\"{run}\">"
    file = tmp_path / "broken.html"
    file.write_text(small.read_text(encoding="utf-8").replace('<h2 id="results-title">', evil + "<h2>", 1), encoding="utf-8")
    page, wrong = visit(file)
    assert page.title() == "What the draft knows"
    assert any("Content Security Policy" in line for line in wrong)  # and it says so
    assert page.locator(".sample").count() == 24  # our own script still runs


def test_without_javascript_the_tables_and_figures_are_there(visit, small):
    page, _ = visit(small, java_script_enabled=False)
    assert page.locator("table").first.is_visible()
    assert page.locator("svg.chart").count() == 5
    assert page.get_by_text("The samples need JavaScript").is_visible()
    assert not page.locator("#controls").is_visible()
