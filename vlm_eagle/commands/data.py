"""The data of a recipe or a mix, as conversations for training: `vlm-eagle data NAME --out DIR`.

Without a name it lists what there is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from data_recipes.build import build
from data_recipes.listing import describe, show_all
from data_recipes.plan import make_plan
from data_recipes.settings import Settings
from vlm_eagle.cli import USAGE, run_cli
from vlm_eagle.errors import UserError


@dataclass
class Config:
    """What to make, from where, and where to.

    Attributes:
        out: folder to make; it must not exist, and appears only when everything is in it.
        source: where the data is instead of the Hub: a file, a folder or another dataset's id; for a mix RECIPE=PLACE ...
        files: patterns of the files to read in the source, e.g. 'data/train-*.parquet'.
        images: folders to look for pictures in, before the source's own.
        total: conversations to draw at random; a mix keeps its proportions.
        limit: rows to read of each source, from its beginning, for a quick look.
        held_out: share of conversations that go to held_out.jsonl; the same ones whatever the mix, its order and its seed.
        similarity: from which similarity on two conversations count as near duplicates; 2 drops identical ones only.
        seed: of the draw and of the order.
        workers: processes.
    """

    out: str = ""
    source: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    total: int | None = None
    limit: int | None = None
    held_out: float = 0.01
    similarity: float = 0.8
    seed: int = 0
    workers: int = 2


def start(argv: Sequence[str]) -> int:
    """Lists what there is, or makes one of it."""
    program = sys.argv[0]
    if not argv or argv[0].startswith("-"):
        is_right = not argv or argv[0] in ("--help", "-h")
        console = Console(stderr=not is_right)
        show_all(console)
        console.print(f"\n{program} NAME --out DIR     makes one; NAME --help lists the options", highlight=False)
        return 0 if is_right else USAGE
    name, rest = argv[0], argv[1:]
    sys.argv = [f"{program} {name}", *rest]  # how help, errors and recipe.json call this program
    try:
        description = describe(name)
    except UserError:  # `main` says what is wrong
        description = __doc__
    return run_cli(lambda config: main(name, config), Config, description, argv=rest)


def main(name: str, config: Config) -> int:
    """Makes it."""
    if not config.out:
        raise UserError("--out is missing: the folder to make.")
    plan = make_plan(name, config.source, config.total, tuple(config.files))
    settings = Settings(config.held_out, config.similarity, config.limit, config.seed, config.workers, config.images)
    console = Console(markup=False)  # paths may hold brackets
    build(plan, Path(config.out), settings, console)
    console.print(f"{config.out}: train.jsonl, held_out.jsonl, rejected.jsonl, recipe.json", highlight=False)
    return 0
