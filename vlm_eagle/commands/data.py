"""The data of a recipe or a mix, as conversations for training: `vlm-eagle data NAME --out DIR`.

Without a name it lists what there is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from data_recipes.build import BuildOptions, build
from data_recipes.mix import Mix, load_mix, make_mix, mix_names
from data_recipes.recipe import RECIPES
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
        asked_for_help = argv[:1] in (["--help"], ["-h"])
        show_all(Console(stderr=not asked_for_help and bool(argv)), program)
        return 0 if asked_for_help or not argv else USAGE
    name, rest = argv[0], argv[1:]
    sys.argv = [f"{program} {name}", *rest]  # how help, errors and recipe.json call this program
    return run_cli(lambda config: main(name, config), Config, _describe(name), argv=rest)


def show_all(console: Console, program: str) -> None:
    """Prints all recipes and mixes with origin, licence and size."""
    console.print("[bold]Recipes[/bold]: one source each")
    for recipe in RECIPES.values():
        _entry(console, recipe.name, recipe.about, f"{recipe.origin or 'give --source'}; {recipe.licence}; {recipe.size}")
    console.print("[bold]Mixes[/bold]: several sources in given numbers")
    for name in mix_names():
        mix = load_mix(name)
        _entry(console, name, mix.about, _parts(mix))
    _entry(console, "my_mix.yaml", "Your own: copy one of data_recipes/mixes/ and change it.", "")
    console.print(f"\n{program} NAME --out DIR     makes one; NAME --help lists the options", highlight=False)


def _entry(console: Console, name: str, about: str, facts: str) -> None:
    console.print(f"  [cyan]{name}[/cyan]", highlight=False)
    for text in filter(None, (about, facts)):
        console.print(Padding(text, (0, 0, 0, 6)), highlight=False)


def _parts(mix: Mix) -> str:
    return ", ".join(f"{part.total:,} {part.recipe.name}" if part.total else f"all of {part.recipe.name}" for part in mix.parts)


def _describe(name: str) -> str:
    recipe = RECIPES.get(name)
    if recipe is None:
        try:
            mix = load_mix(name)
        except UserError:  # `main` says what is wrong
            return __doc__ or ""
        return f"{mix.about} Parts: {_parts(mix)}."
    origin = recipe.origin or "your own"
    languages = f"Languages: {', '.join(recipe.languages)}. " if recipe.languages else ""
    about = f"{recipe.about} Origin: {origin}. Licence: {recipe.licence}. Size: {recipe.size}. {languages}"
    return f"{about}Row: {recipe.schema}"


def main(name: str, config: Config) -> int:
    """Makes it."""
    if not config.out:
        raise UserError("--out is missing: the folder to make.")
    mix = make_mix(name, config.source, config.total, tuple(config.files))
    console = Console(markup=False)  # paths may hold brackets
    build(mix, Path(config.out), config, console)
    console.print(f"{config.out}: train.jsonl, held_out.jsonl, rejected.jsonl, recipe.json", highlight=False)
    return 0
