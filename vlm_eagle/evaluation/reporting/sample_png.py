"""One sample as a PNG, for a README or a model card: its picture, and every token of the answer by who wrote it."""

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlm_eagle.data.conversation import BadRow
from vlm_eagle.data.images import open_image
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.inputs import ReportInput, is_shown
from vlm_eagle.evaluation.reporting.text import visible
from vlm_eagle.evaluation.reporting.thumbnails import Thumbnails
from vlm_eagle.evaluation.result_schema import TurnResult
from vlm_eagle.packages import require

WIDTH, MARGIN, PICTURE, LINE, SIZE = 1600, 40, 520, 46, 28  # pixels
MAX_TOKENS = 160
TEXT, MUTED, DRAFT, BONUS, FIRST = "#1d1d1b", "#595955", "#c9e7d1", "#b34700", "#0b62a8"  # as in page.css, light
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC")
Font = ImageFont.FreeTypeFont


def sample_png(found: ReportInput, folders: list[Path], wanted: str | None = None) -> bytes:
    """The PNG file's content.

    Args:
        found: the results.
        folders: the pictures may lie below these, and below the result files' folders.
        wanted: id of the prompt; None for the one with a picture whose acceptance is the most typical of its setting.

    Raises:
        UserError: there is no such sample.
    """
    require("matplotlib", user="--png", extra="report")
    thumbnails, candidates = Thumbnails(folders), []
    for setting, results in zip(found.settings, found.setting_files, strict=True):
        for turn in (turn for benchmark in setting.benchmarks for turn in benchmark.prompts if is_shown(turn)):
            if turn.id == wanted or (wanted is None and turn.images and turn.num_forwards):
                tau = turn.num_committed / turn.num_forwards if turn.num_forwards else 0.0
                candidates.append((abs(tau - setting.totals.acceptance_length), len(candidates), turn, results.parent))
    for *_, turn, folder in sorted(candidates):
        files = [thumbnails.find(name, folder) for name in turn.images]
        try:
            pictures = [open_image(file, str(file)) for file in files if isinstance(file, Path)]
        except BadRow:
            continue
        if pictures or wanted is not None:
            return _draw(turn, pictures[:1])
    what = "with a picture that can be read" if wanted is None else f"called {wanted!r}"
    raise UserError(f"--png found no sample {what}. Name one with --png-sample, or its pictures' folder with --images.")


def _draw(turn: TurnResult, pictures: list[Image.Image]) -> bytes:
    canvas = Image.new("RGB", (WIDTH, 4000), "white")
    draw, fonts = ImageDraw.Draw(canvas), _fonts(SIZE)
    left, bottom = MARGIN, 0
    for picture in pictures:
        picture = picture.convert("RGB")
        scale = PICTURE / max(picture.size)
        picture = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
        canvas.paste(picture, (MARGIN, MARGIN))
        left, bottom = 2 * MARGIN + PICTURE, MARGIN + picture.height
    y = _flow(draw, fonts, [(word + " ", "") for word in visible(turn.question)[:400].split()], left, MARGIN, MUTED)
    y = _flow(draw, fonts, _tokens(turn), left, y + LINE, TEXT)
    tau = f"{turn.num_committed / turn.num_forwards:.2f} tokens per target forward" if turn.num_forwards else ""
    legend = [(" draft ", "draft"), ("   ", ""), (" target ", "bonus"), ("   ", ""), (" prefill ", "first"), (f"   {tau}", "")]
    y = _flow(draw, fonts, legend, left, y + LINE, MUTED)
    out = io.BytesIO()
    canvas.crop((0, 0, WIDTH, min(max(y + LINE, bottom) + MARGIN, canvas.height))).save(out, "PNG", optimize=True)
    return out.getvalue()


def _tokens(turn: TurnResult) -> list[tuple[str, str]]:
    """(text, who wrote it) of each token."""
    writers = ["first"]
    for committed, kept in zip(turn.committed or (), turn.accepted or (), strict=True):
        writers += ["draft"] * kept + ["bonus"] * (committed - kept)
    tokens = [(visible(piece), writer) for piece, writer in zip(turn.pieces or (), writers, strict=True)]
    return tokens[:MAX_TOKENS] + ([(" …", "")] if len(tokens) > MAX_TOKENS else [])


def _flow(draw: ImageDraw.ImageDraw, fonts: list[Font], tokens: list[tuple[str, str]], left: int, y: int, colour: str) -> int:
    """Draws tokens in lines from `left` to the right margin; returns the last line's y."""
    x = float(left)
    for text, writer in tokens:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            font = fonts[-1 if any(ord(character) > 0x2E7F for character in line) else 0]
            width = font.getlength(line)
            if number or x + width > WIDTH - MARGIN:
                x, y = float(left), y + LINE
            if number and not line:
                continue
            box = (x + 1, y - 3, x + max(width, 2) - 1, y + SIZE + 8)
            if writer == "draft":
                draw.rectangle(box, fill=DRAFT)
            elif writer == "bonus":
                draw.line((box[0], box[3], box[2], box[3]), fill=BONUS, width=4)
            elif writer == "first":
                draw.rectangle(box, outline=FIRST, width=2)
            draw.text((x, y), line, fill=colour, font=font)
            x += width
    return y


def _fonts(size: int) -> list[Font]:
    """matplotlib's own font, and one with Chinese characters where the machine has it."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    names = ["DejaVu Sans", *[name for name in FONTS if name in known][:1]]
    return [ImageFont.truetype(font_manager.findfont(name), size) for name in names]
