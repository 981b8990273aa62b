"""The report as a file: escaping, pictures, size, colours, and the command line."""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from report_results import EVIL, hostile, invent, speed, write, write_image

from vlm_eagle.cli import run_cli
from vlm_eagle.commands.report import Config, main
from vlm_eagle.evaluation.reporting import page as page_module
from vlm_eagle.evaluation.reporting import sample_png
from vlm_eagle.evaluation.reporting.samples import _shares
from vlm_eagle.evaluation.reporting.text import json_block, visible
from vlm_eagle.evaluation.reporting.thumbnails import TRIED, Thumbnails


class Page(HTMLParser):
    """All elements of a page with their attributes, and the text of its JSON block."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.text, self.data, self._inside = [], "", "", None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = ("data" if dict(attrs).get("id") == "data" else tag) if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data
        elif self._inside is None:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def report(*files, out, options=()):
    assert run_cli(main, Config, "", argv=["--results", *map(str, files), "--out", str(out), *options]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder, report(invent(folder, prompts=12), out=folder / "page.html")


@pytest.mark.slow
def test_text_from_data_stays_text(tmp_path, made):
    html = report(
        hostile(tmp_path), out=tmp_path / "h.html", options=["--title", EVIL.replace("\x00", "").replace("\ud800", "")]
    )
    found, clean = Page(html), Page(made[1])
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in clean.elements} | {"bdi"}
    assert len(found.all("script")) == len(clean.all("script")) == 2
    known = {(tag, name) for tag, attrs in clean.elements for name in attrs}
    assert {(tag, name) for tag, attrs in found.elements for name in attrs} <= known | {
        ("details", "open"),
        ("details", "class"),
    }
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on")]
    assert "document.title='pwned'" in found.text  # shown as text
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|\b49\b", found.text)  # and never run as a template
    for control in ("\u202e", "\u2066", "\x00", "\ud800"):
        assert control not in html
    sample = json.loads(found.data)["samples"][0]
    assert sample["q"] == visible(EVIL)
    assert "⟨U+202E⟩" in sample["q"]
    assert sample["im"] == []


def test_the_page_asks_nothing_of_anyone(made):
    page = Page(made[1])
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "style"):
            assert attrs.get(name, "#").startswith("#") or (tag, attrs[name]) == ("link", "data:,")
    assert not re.search(r"@import|url\(", (page_module.HERE / "page.css").read_text())
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", (page_module.HERE / "page.js").read_text()
    )


def test_the_policy_allows_exactly_this_script_and_style(made):
    html = made[1]
    (policy,) = [attrs["content"] for attrs in Page(html).all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    others = [part for part in policy.split("; ") if "sha256" not in part]
    assert others == ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    assert "unsafe" not in policy


@pytest.mark.parametrize("text", ["</script>", "<!--", "&lt;", "\u2028", "\ud83d", "a\u202eb\u2069", "\x1b[0m"])
def test_json_block_holds_anything(text):
    block = json_block({"x": visible(text)})
    assert not set("<>&") & set(block)
    block.encode("utf-8")
    assert json.loads(block)["x"] == visible(text)
    assert visible("tab\tline\n中文 😀 \u200d") == "tab\tline\n中文 😀 \u200d"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("http://example.org/a.png", "an address"),
        ("data:image/png;base64,AAAA", "an address"),
        ("javascript:alert(1)", "an address"),
        ("file:///etc/passwd", "an address"),
        ("../outside/secret.png", "outside the folders"),
        ("/etc/hostname", "outside the folders"),
        ("link.png", "outside the folders"),
        ("missing.png", "file missing"),
        (".", "file missing"),
        ("text.png", "image broken"),
        ("nul\x00.png", "no usable path"),
        ("x" * 5000, "file missing"),
    ],
)
def test_pictures_that_are_not_opened(tmp_path, name, reason):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_image(outside / "secret.png", 1)
    inside.mkdir()
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "text.png").write_text("no picture")
    thumbnails = Thumbnails([])
    refused = thumbnails.add(name, inside)
    assert isinstance(refused, str)
    assert refused.startswith(reason) or (len(name) > 1000 and refused == "no usable path")
    assert thumbnails.refused == {refused: 1}
    assert thumbnails.encode(10**6) == []
    assert Thumbnails([outside]).add("../outside/secret.png", inside) == 0  # once the user has named the folder


def test_a_picture_is_stored_once_whatever_its_name(tmp_path):
    write_image(tmp_path / "a.png", 1, 600)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    write_image(tmp_path / "c.png", 2)
    thumbnails = Thumbnails([])
    assert [thumbnails.add(name, tmp_path) for name in ("a.png", "b.png", "c.png", "./a.png")] == [0, 0, 1, 0]
    large, small = thumbnails.encode(10**7)
    assert (large.width, large.height) == (384, 384)
    assert (small.width, small.height) == (96, 96)  # never enlarged
    data = base64.b64decode(large.url.removeprefix("data:image/webp;base64,"))
    assert Image.open(io.BytesIO(data)).format == "WEBP"


@pytest.mark.parametrize("budget", [200_000, 60_000, 40_000, 2_000, 0])
def test_pictures_fit_their_budget(tmp_path, budget):
    thumbnails = Thumbnails([])
    for seed in range(8):
        write_image(tmp_path / f"{seed}.jpg", seed, 400)
        thumbnails.add(f"{seed}.jpg", tmp_path)
    encoded = thumbnails.encode(budget)
    assert len(encoded) == 8
    assert sum(len(t.url) for t in encoded if t) <= budget
    assert (None in encoded) == (budget <= 2_000)
    assert len({t.width for t in encoded if t}) <= 1


@pytest.mark.slow
def test_a_wrong_estimate_of_the_size_is_noticed(tmp_path):
    """The pictures that are tried, every other one, are plain; the ones between are not."""
    thumbnails = Thumbnails([])
    for number in range(2 * TRIED):
        file = tmp_path / f"{number}.png"
        if number % 2:
            write_image(file, number, 400)
        else:
            Image.new("RGB", (400, 400), (number, 0, 0)).save(file)
        thumbnails.add(file.name, tmp_path)
    encoded = thumbnails.encode(250_000)
    assert None not in encoded
    assert 150_000 < sum(len(t.url) for t in encoded) <= 250_000


def test_shares():
    assert _shares([90, 3, 50], 20) == [9, 3, 8]
    assert _shares([5, 5], 100) == [5, 5]
    assert _shares([5, 5, 5], 2) == [0, 1, 1] or sum(_shares([5, 5, 5], 2)) == 2
    assert _shares([], 5) == []


def test_long_answers_are_cut_and_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "TEXT_BUDGET", 3000)
    html = report(invent(tmp_path, prompts=12, length=150, images=False), out=tmp_path / "r.html")
    data = json.loads(Page(html).data)
    longest = max(len(answer) for sample in data["samples"] for answer in sample["a"])
    assert longest == 32
    assert f"cut after {longest} tokens" in html
    assert any(r[4] > longest for sample in data["samples"] for r in sample["r"])  # the whole length is still told


def test_the_page_says_what_is_missing(tmp_path):
    value = json.loads(invent(tmp_path, prompts=8).read_text())
    del value["speed"], value["settings"][0]["totals"]["interval"], value["settings"][1]["benchmarks"][-1]
    value["settings"][0]["benchmarks"][0]["skipped"] = {"image missing": 3}
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    text = Page(report(write(tmp_path / "a.json", value), out=tmp_path / "r.html", options=["--samples", "3"])).text
    for sentence in (
        "no speedups: add the file that vlm-eagle speedup wrote", "have no intervals", "vqa: 3 prompts skipped: image missing",
        "not all settings were measured on the same prompts", "3 of 8 samples are shown",
        "1 picture not shown: file missing",
    ):  # fmt: skip
        assert sentence.lower() in text.lower()


def test_the_speedup_in_the_table_is_that_of_the_lowest_concurrency(tmp_path):
    value = json.loads(invent(tmp_path, prompts=4, depths=(3,)).read_text())
    value["speed"] = [{**speed(4, seen), "concurrency": n} for n, seen in ((4, 1.11), (2, 2.22), (8, 3.33))]
    html = report(write(tmp_path / "a.json", value), out=tmp_path / "r.html")
    assert re.findall(r'class="speedup">([\d.]+)×', html) == ["2.27", "2.22"]  # of vqa, and of all


def test_the_page_opens_with_the_setting_of_most_prompts(tmp_path):
    value = json.loads(invent(tmp_path, prompts=8).read_text())
    del value["settings"][1]["benchmarks"][1:]
    value["settings"][1]["totals"]["acceptance_length"] = 9.0
    found = Page(report(write(tmp_path / "a.json", value), out=tmp_path / "r.html"))
    assert json.loads(found.data)["start"] == 0
    assert "tokens per target forward, chain of 4" in " ".join(found.text.split())


def test_a_png_of_one_sample(tmp_path):
    """Its picture, and a shade for every token: what is filled is the draft's, what is underlined the target's own."""
    file, out = invent(tmp_path, prompts=8), tmp_path / "sample.png"
    value = json.loads(file.read_text())
    row = next(row for b in value["settings"][0]["benchmarks"] for row in b["prompts"] if row["images"])
    words = [f"word{i} " for i in range(9)]
    row |= {"pieces": words, "output_token_ids": list(range(9)), "committed": [4, 4], "accepted": [4, 3]}
    row |= {"num_committed": 8, "num_forwards": 2}
    del value["settings"][1:]
    report(write(file, value), out=tmp_path / "r.html", options=["--png", str(out), "--png-sample", row["id"]])
    with Image.open(out) as picture:
        shown = picture.convert("RGB")
    seen = {colour: count for count, colour in shown.getcolors(2**24)}
    draft, bonus, first = (tuple(bytes.fromhex(c[1:])) for c in (sample_png.DRAFT, sample_png.BONUS, sample_png.FIRST))
    height = sample_png.SIZE + 12
    assert seen[draft] > 5 * seen[bonus] > 0  # seven filled boxes beside one line, and those of the legend
    assert 4 * height < seen[first]  # the frame of the first token
    crop = shown.crop((sample_png.MARGIN, sample_png.MARGIN, sample_png.MARGIN + 500, sample_png.MARGIN + 500))
    assert len(crop.getcolors(2**20)) > 100  # the picture


def test_the_png_takes_a_sample_whose_picture_is_there(tmp_path):
    file = invent(tmp_path, prompts=8)
    kept, *others = sorted((tmp_path / "images").iterdir())
    for other in others:
        other.unlink()
    report(file, out=tmp_path / "r.html", options=["--png", str(tmp_path / "sample.png")])
    assert Image.open(tmp_path / "sample.png").width == sample_png.WIDTH
    kept.unlink()
    argv = ["--results", str(file), "--out", str(tmp_path / "r.html"), "--png", str(tmp_path / "other.png")]
    assert run_cli(main, Config, "", argv=argv) == 2


@pytest.mark.slow
def test_any_text_can_be_drawn(tmp_path):
    options = ["--png", str(tmp_path / "x.png"), "--png-sample", "x"]
    report(hostile(tmp_path), out=tmp_path / "h.html", options=options)
    assert Image.open(tmp_path / "x.png").width == sample_png.WIDTH


def test_the_command_line(tmp_path, capsys, monkeypatch):
    file = invent(tmp_path, prompts=4)
    assert run_cli(main, Config, "", argv=["--out", "x.html"]) == 2
    assert "Give at least one result file" in capsys.readouterr().err
    assert run_cli(main, Config, "", argv=["--results", str(file), "--out", str(tmp_path / "x.pdf")]) == 2
    assert "does not end in .html" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run_cli(main, Config, "", argv=["--results", str(file), "--out", str(tmp_path / "file" / "x.html")]) == 2
    assert "Cannot write" in capsys.readouterr().err
    page = ["--results", str(file), "--out", str(tmp_path / "x.html")]
    assert run_cli(main, Config, "", argv=[*page, "--png", "x.jpg"]) == 2
    assert "does not end in .png" in capsys.readouterr().err
    assert run_cli(main, Config, "", argv=[*page, "--png", str(tmp_path / "x.png"), "--png-sample", "nosuch"]) == 2
    assert "no sample called 'nosuch'" in capsys.readouterr().err
    (tmp_path / "x.html").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run_cli(main, Config, "", argv=[*page, "--png", str(tmp_path / "x.png")]) == 2
    assert "vlm-eagle[report]" in capsys.readouterr().err
    assert (tmp_path / "x.html").is_file()  # the page needs no matplotlib


def colours(css: str, dark: bool) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1] if dark else blocks[0]))


def contrast(a: str, b: str) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(a: str, b: str, share: float) -> str:
    parts = zip(bytes.fromhex(a[1:]), bytes.fromhex(b[1:]), strict=True)
    return "#" + bytes(round(share * x + (1 - share) * y) for x, y in parts).hex()


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_apart(dark):
    """Text 4.5 to 1, lines and marks 3 to 1, on everything they stand on."""
    c = colours((page_module.HERE / "page.css").read_text(), dark)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text, grounds in (
        ("text", ("page", "card", "band", "mark", "draft")), ("muted", ("page", "card", "band")),
        ("link", ("page", "card")), ("draft-text", ("draft",)),
    ):  # fmt: skip
        for ground in grounds:
            assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
    for mark in ("bonus", "first", "focus", *(f"s{i}" for i in range(8))):
        assert contrast(c[mark], c["card"]) >= 3, mark
        assert contrast(c[mark], c["page"]) >= 3, mark
    assert contrast(c["s2"], c["card"]) >= 4.5  # speedups are written in it
    shares = [int(n) for n in re.findall(r"--share: (\d+)%", (page_module.HERE / "page.css").read_text())]
    assert shares == sorted(shares)
    assert len(shares) == 11
    assert contrast(c["text"], mixed(c["s2"], c["card"], shares[-1] / 100)) >= 4.5  # numbers on the darkest of the heat map
    if not dark:  # the PNG looks like the page
        assert (c["text"], c["muted"], c["draft"]) == (sample_png.TEXT, sample_png.MUTED, sample_png.DRAFT)
        assert (c["bonus"], c["first"]) == (sample_png.BONUS, sample_png.FIRST)
