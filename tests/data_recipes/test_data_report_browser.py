"""The data report's page in a real browser: narrow and wide, light and dark, on hostile data."""

import json

import pytest
from PIL import Image

from vlm_eagle.commands import data_report

LONG = "</mark><script>document.title = 'broken'</script><img src=x onerror=alert(1)> \u202eevil" + "x" * 400


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    Image.new("RGB", (900, 300), "navy").save(folder / "a.png")
    question = {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": LONG}]}
    rows = [{"id": LONG, "messages": [question, {"role": "assistant", "content": f"{i} kettles. {LONG}"}]} for i in range(40)]
    rows += [{"messages": [{"role": "user", "content": [{"type": "image", "image": "n" * 150}]}]}, {"messages": LONG}, 7]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data_report.main(
        data_report.Config(
            data=[str(folder / "rows.jsonl")], out=str(folder), cache=str(folder / "cache"), workers=0, samples=40
        )
    )
    return folder / "report.html"


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reads_well_and_does_nothing(browser, page_file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("data:image/", page_file.as_uri())) else wrong.append(r.url))
    page.goto(page_file.as_uri())
    for summary in page.locator("details:not([open]) > summary").all()[:5]:
        summary.click()
    assert wrong == []
    assert page.title() == "Data report"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("details").count() == 40
    assert page.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth === 256).length") >= 3
    back, text, dim, learned, mark = (
        _luminance(page.evaluate(f"getComputedStyle(document.querySelector('{tag}')).{name}"))
        for tag, name in (
            ("body", "backgroundColor"), ("body", "color"), ("p", "color"), ("mark", "backgroundColor"), ("mark", "color"),
        )
    )  # fmt: skip
    assert (back < 0.1) == (scheme == "dark")
    for one, other in ((back, text), (back, dim), (learned, mark)):
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5  # WCAG 2.2, 1.4.3
    page.close()


def _luminance(colour: str) -> float:
    """Relative luminance of rgb(r, g, b), as WCAG 2.2 defines it."""
    values = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
