"""Names that tables, comparisons and the report share: of what is timed, and of models, as short as they can be."""

from collections.abc import Iterable
from pathlib import PurePath

PLAIN, DRAFTED, GENERATE, LOOKUP = "target alone", "with the draft", "transformers generate", "prompt lookup"
EVERY_DRAFT = "draft"  # the folder that training writes; alone it names nothing, so its parent goes with it


def short_names(names: Iterable[str | None]) -> dict[str | None, str]:
    """Each name (a folder or a hub id) with its last parts, as few as tell it from all others; "" for None."""
    parts = {name: PurePath(name).parts for name in names if name}
    return {None: "", **{name: _end(own, set(parts.values()) - {own}) for name, own in parts.items()}}


def _end(own: tuple[str, ...], others: set[tuple[str, ...]]) -> str:
    count = 2 if own[-1:] == (EVERY_DRAFT,) else 1
    while count < len(own) and any(other[-count:] == own[-count:] for other in others):
        count += 1
    return PurePath(*own[-count:]).as_posix()
