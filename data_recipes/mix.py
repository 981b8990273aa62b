"""What is to be built: shares of one or several sources, and where each source's data is."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from data_recipes.recipe import RECIPES, Recipe
from data_recipes.stream import matching
from vlm_eagle.errors import UserError

MIXES = Path(__file__).parent / "mixes"
_MIX_KEYS = {"about", "card", "parts"}
_PART_KEYS = {"recipe", "total", "files", "origin", "languages"}


@dataclass(frozen=True)
class MixPart:
    """One source's share of a mix.

    Attributes:
        recipe: how its rows are read.
        source: Hub id or local path.
        total: conversations to draw; None for all.
        files: patterns that replace the recipe's own.
        languages: keep only answers in these; empty for all.
    """

    recipe: Recipe
    source: str
    total: int | None = None
    files: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mix:
    """A name and its parts, the first one that holds a conversation keeps it. A recipe alone is a mix of one part."""

    name: str
    about: str
    parts: tuple[MixPart, ...]


def mix_names() -> list[str]:
    """The mixes that come with this package."""
    return sorted(file.stem for file in MIXES.glob("*.yaml"))


def make_mix(name: str, sources: list[str], total: int | None = None, files: tuple[str, ...] = ()) -> Mix:
    """The mix for a recipe's or mix's name, or a mix's YAML file.

    Args:
        name: of a recipe or a mix, or the path of a YAML file.
        sources: `PATH_OR_ID` for a single recipe, `recipe=PATH_OR_ID` for each part of a mix that is not to come from the Hub.
        total: conversations to draw in all; a mix keeps its proportions.
        files: patterns that replace a single recipe's own.

    Raises:
        UserError: an unknown name, a malformed mix, a part without a source, or files that do not exist.
    """
    if total is not None and total < 1:
        raise UserError(f"--total must be at least 1, found {total}.")
    if name in RECIPES:
        recipe = RECIPES[name]
        if len(sources) > 1:
            raise UserError(f"{name} has one source, found --source {' '.join(sources)}. Give one path, or a folder of files.")
        source = sources[0].removeprefix(f"{name}=") if sources else recipe.origin
        if files and Path(source).is_dir() and not matching(Path(source), files):
            raise UserError(f"{source}: no file there matches --files {' '.join(files)}. Check the patterns.")
        mix = Mix(name, recipe.about, (MixPart(recipe, source, total, files or recipe.files),))
    else:
        if files:
            raise UserError("--files goes with a single recipe; a mix names the files of its parts in its YAML file.")
        mix = _scaled(load_mix(name, _named_sources(sources)), total)
    for part in mix.parts:
        if not part.source:
            option = "--source PATH" if mix.name == part.recipe.name else f"--source {part.recipe.name}=PATH"
            raise UserError(f"{part.recipe.name} is not on the Hub. Say where its data is: {option}")
    return mix


def load_mix(name: str, sources: Mapping[str, str] = MappingProxyType({})) -> Mix:
    """A mix that comes with this package, or a YAML file; `sources` replaces the origins of its parts.

    Raises:
        UserError: there is no such mix, or it is malformed.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else MIXES / f"{name}.yaml"
    try:
        mix = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(name, [*RECIPES, *mix_names()], n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"No recipe or mix {name!r}.{hint} `python -m data_recipes` lists all.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not readable as YAML: {error}") from None
    if not isinstance(mix, dict) or not set(mix) <= _MIX_KEYS or not isinstance(mix.get("parts"), list) or not mix["parts"]:
        raise UserError(f"{file}: a mix has the keys {', '.join(sorted(_MIX_KEYS))}, and parts is a list.")
    parts = tuple(_parse_part(part, file, sources) for part in mix["parts"])
    names = {part.recipe.name for part in parts}
    if unused := set(sources) - names:
        raise UserError(
            f"--source names {', '.join(sorted(unused))}, but the parts of {file.stem} are {', '.join(sorted(names))}."
        )
    return Mix(file.stem, str(mix.get("about", "")), parts)


def _parse_part(part: Any, file: Path, sources: Mapping[str, str]) -> MixPart:
    if not isinstance(part, dict) or not set(part) <= _PART_KEYS or str(part.get("recipe")) not in RECIPES:
        raise UserError(
            f"{file}: a part has the keys {', '.join(sorted(_PART_KEYS))}, and recipe is one of {', '.join(RECIPES)}."
        )
    total = part.get("total")
    if total is not None and (not isinstance(total, int) or isinstance(total, bool) or total < 1):
        raise UserError(f"{file}: total must be a whole number of conversations, found {total!r}.")
    recipe = RECIPES[part["recipe"]]
    files, languages = (part.get(key) or () for key in ("files", "languages"))
    if not all(isinstance(one, list | tuple) and all(isinstance(item, str) for item in one) for one in (files, languages)):
        raise UserError(f"{file}: files and languages are lists of words.")
    source = sources.get(recipe.name) or part.get("origin") or recipe.origin
    return MixPart(recipe, str(source), total, tuple(files) or recipe.files, tuple(languages))


def _named_sources(sources: list[str]) -> dict[str, str]:
    pairs = [source.partition("=") for source in sources]
    if any(not equals or not path for _, equals, path in pairs):
        raise UserError(f"A mix has several sources: --source RECIPE=PATH ..., found {' '.join(sources)}.")
    return {recipe: path for recipe, _, path in pairs}


def _scaled(mix: Mix, total: int | None) -> Mix:
    """The mix with `total` conversations in all, in its own proportions (largest remainders)."""
    if total is None:
        return mix
    shares = [part.total for part in mix.parts if part.total is not None]
    if len(shares) < len(mix.parts):
        if len(mix.parts) > 1:
            raise UserError(f"{mix.name} takes all of some sources, so it has no proportions to keep. Leave out --total.")
        return replace(mix, parts=tuple(replace(part, total=total) for part in mix.parts))
    exact = [share * total / sum(shares) for share in shares]
    counts = [int(value) for value in exact]
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[i] += 1
    return replace(mix, parts=tuple(replace(part, total=count) for part, count in zip(mix.parts, counts, strict=True)))
