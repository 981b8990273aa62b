"""What recipes and mixes there are, in words."""

from rich.console import Console
from rich.padding import Padding

from data_recipes.mix import Mix, load_mix, mix_names
from data_recipes.recipe import RECIPES


def show_all(console: Console) -> None:
    """Prints all recipes and mixes with origin, licence and size."""
    console.print("[bold]Recipes[/bold]: one source each")
    for recipe in RECIPES.values():
        _show(console, recipe.name, recipe.about, f"{recipe.origin or 'give --source'}; {recipe.licence}; {recipe.size}")
    console.print("[bold]Mixes[/bold]: several sources in given numbers")
    for name in mix_names():
        mix = load_mix(name)
        _show(console, name, mix.about, _parts(mix))
    _show(console, "my_mix.yaml", "Your own: copy one of data_recipes/mixes/ and change it.")


def describe(name: str) -> str:
    """A recipe or a mix in a paragraph.

    Raises:
        UserError: there is none of this name.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        mix = load_mix(name)
        return f"{mix.about} Parts: {_parts(mix)}."
    languages = f"Languages: {', '.join(recipe.languages)}. " if recipe.languages else ""
    about = f"{recipe.about} Origin: {recipe.origin or 'your own'}. Licence: {recipe.licence}. Size: {recipe.size}. "
    return f"{about}{languages}Row: {recipe.schema}"


def _show(console: Console, name: str, *facts: str) -> None:
    console.print(f"  [cyan]{name}[/cyan]", highlight=False)
    for text in facts:
        console.print(Padding(text, (0, 0, 0, 6)), highlight=False)


def _parts(mix: Mix) -> str:
    return ", ".join(f"{part.total:,} {part.recipe.name}" if part.total else f"all of {part.recipe.name}" for part in mix.parts)
