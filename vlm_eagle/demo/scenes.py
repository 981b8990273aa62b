"""Generated pictures: a few coloured shapes on a 3 x 3 grid of places.

A scene is the *truth* about a picture. Questions and answers are made from it (`questions.py`), and `draw` turns it into
pixels, so that whether the target can see is a plain comparison.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

COLORS = {
    "red": (214, 40, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 220),
    "yellow": (240, 205, 30),
    "purple": (140, 50, 170),
    "orange": (245, 130, 20),
    "black": (20, 20, 20),
    "pink": (250, 150, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = ("small", "large")
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
CANVASES = ((96, 96), (128, 128), (128, 96), (96, 128), (160, 128))  # (width, height) in pixels, multiples of 32
BACKGROUNDS = ((255, 255, 255), (232, 236, 240), (250, 244, 228), (216, 228, 216))


@dataclass(frozen=True)
class Thing:
    """One shape: its colour, kind, size and place, all by name."""

    color: str
    shape: str
    size: str
    place: str


@dataclass(frozen=True)
class Scene:
    """Things in reading order (by place), on a canvas of `canvas` pixels (width, height)."""

    things: tuple[Thing, ...]
    canvas: tuple[int, int]
    background: tuple[int, int, int]
    jitter_seed: int


def random_scene(rng: random.Random, min_things: int = 1, max_things: int = 4) -> Scene:
    """A scene of `min_things` to `max_things` things in different places."""
    count = rng.randint(min_things, max_things)
    places = sorted(rng.sample(range(9), count))
    things = tuple(Thing(rng.choice(list(COLORS)), rng.choice(SHAPES), rng.choice(SIZES), PLACES[place]) for place in places)
    return Scene(things, rng.choice(CANVASES), rng.choice(BACKGROUNDS), rng.randrange(2**31))


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB image. The same scene always gives the same pixels."""
    width, height = scene.canvas
    image = Image.new("RGB", scene.canvas, scene.background)
    pen = ImageDraw.Draw(image)
    rng = random.Random(scene.jitter_seed)
    for thing in scene.things:
        row, column = divmod(PLACES.index(thing.place), 3)
        cell_w, cell_h = width / 3, height / 3
        radius = min(cell_w, cell_h) * (0.44 if thing.size == "large" else 0.27)
        slack = min(cell_w, cell_h) / 2 - radius
        x = (column + 0.5) * cell_w + rng.uniform(-0.6, 0.6) * slack
        y = (row + 0.5) * cell_h + rng.uniform(-0.6, 0.6) * slack
        _draw_shape(pen, thing.shape, x, y, radius, COLORS[thing.color])
    return image


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
    box = (x - r, y - r, x + r, y + r)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "ring":
        pen.ellipse(box, outline=fill, width=max(2, round(r * 0.4)))
    elif shape == "square":
        pen.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=fill)
    elif shape == "triangle":
        pen.polygon(_corners(x, y, [r] * 3), fill=fill)
    elif shape == "star":
        pen.polygon(_corners(x, y, [r, 0.42 * r] * 5), fill=fill)
    else:  # cross
        arm = 0.3 * r
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=fill)
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=fill)


def _corners(x: float, y: float, radii: list[float]) -> list[tuple[float, float]]:
    turn = 2 * math.pi / len(radii)
    return [(x + r * math.sin(i * turn), y - r * math.cos(i * turn)) for i, r in enumerate(radii)]
