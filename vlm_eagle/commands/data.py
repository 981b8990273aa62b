"""The data of a recipe or a mix, as conversations for training: `vlm-eagle data NAME --out DIR`.

Without a name it lists what there is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from data_recipes.build import build
from data_recipes.plan import Plan, load_mix, make_plan, mix_names
from data_recipes.settings import Settings
from data_recipes.sources import RECIPES
from vlm_eagle.cli import USAGE, run_cli
from vlm_eagle.errors import UserError


@dataclass
class Config:
    """What to make, from where, and where to.

    Attributes:
        out: folder to make; it must not exist, and appears only when everything is in it.
        source: where the data lies instead of the Hub: a file, a folder or another dataset's id; for a mix RECIPE=PLACE ...
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
        plan = load_mix(name)
        _entry(console, name, plan.about, _parts(plan))
    _entry(console, "my_mix.yaml", "Your own: copy one of data_recipes/mixes/ and change it.", "")
    console.print(f"\n{program} NAME --out DIR     makes one; NAME --help lists the options", highlight=False)


def _entry(console: Console, name: str, about: str, facts: str) -> None:
    console.print(f"  [cyan]{name}[/cyan]", highlight=False)
    for text in filter(None, (about, facts)):
        console.print(Padding(text, (0, 0, 0, 6)), highlight=False)


def _parts(plan: Plan) -> str:
    return ", ".join(
        f"{part.total:,} {part.recipe.name}" if part.total else f"all of {part.recipe.name}" for part in plan.parts
    )


def _describe(name: str) -> str:
    recipe = RECIPES.get(name)
    if recipe is None:
        try:
            plan = load_mix(name)
        except UserError:  # `_make` says what is wrong
            return __doc__ or ""
        return f"{plan.about} Parts: {_parts(plan)}."
    origin = recipe.origin or "your own"
    languages = f"Languages: {', '.join(recipe.languages)}. " if recipe.languages else ""
    about = f"{recipe.about} Origin: {origin}. Licence: {recipe.licence}. Size: {recipe.size}. {languages}"
    return f"{about}Row: {recipe.schema}"


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
