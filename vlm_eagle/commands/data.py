"""The data of a recipe or a mix, as conversations for training: `vlm-eagle data NAME --out DIR`.

Without a name it lists what there is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from data_recipes.build import BuildOptions, build
from data_recipes.listing import describe, show_all
from data_recipes.mix import make_mix
from vlm_eagle.cli import USAGE, run_cli
from vlm_eagle.errors import UserError


@dataclass(kw_only=True)
class Config(BuildOptions):
    """What to make, from where, and where to.

    Attributes:
        out: folder to make; it must not exist, and appears only when everything is in it.
        source: where the data is instead of the Hub: a file, a folder or another dataset's id; for a mix RECIPE=PLACE ...
        files: patterns of the files to read in the source, e.g. 'data/train-*.parquet'.
        total: conversations to draw at random; a mix keeps its proportions.
    """

    out: str = ""
    source: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    total: int | None = None


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
    mix = make_mix(name, config.source, config.total, tuple(config.files))
    console = Console(markup=False)  # paths may hold brackets
    build(mix, Path(config.out), config, console)
    console.print(f"{config.out}: train.jsonl, held_out.jsonl, rejected.jsonl, recipe.json", highlight=False)
    return 0
