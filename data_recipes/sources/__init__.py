"""One small file per source. `RECIPES` holds them all by name."""

import pkgutil
from importlib import import_module

from data_recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    for recipe in import_module(f"{__name__}.{module.name}").RECIPES
}
