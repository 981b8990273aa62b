"""The JSON files that training and scoring leave beside a draft's folder: run.json and acc_length.json."""

import json
from pathlib import Path
from typing import Any

from vlm_eagle.errors import UserError


def read_beside(draft: str, name: str, given: str | None = None) -> dict[str, Any] | None:
    """The object in the file `given`, or in `name` beside the draft's folder; None where there is no such file.

    Raises:
        UserError: the given file does not exist, or a file is not a JSON object.
    """
    file = Path(given) if given else Path(draft).resolve().parent / name
    if not file.is_file():
        if given:
            raise UserError(f"{file} does not exist.")
        return None
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{file} is not a JSON object.")
    return row


def settings_of(run: dict[str, Any] | None) -> dict[str, Any]:
    """The training settings in a run.json; empty where it has none."""
    settings = (run or {}).get("config")
    return settings if isinstance(settings, dict) else {}


def results_of(draft: str, results: dict[str, Any] | None) -> tuple[dict[str, Any] | None, list[str]]:
    """(the part of acc_length.json that was measured with this draft, what to say if it was measured with another one).

    Raises:
        UserError: several drafts are compared there, and this one is not among them.
    """
    settings = results.get("settings") if results else None
    settings = [s for s in settings if isinstance(s, dict)] if isinstance(settings, list) else []
    named = {str(s["draft"]) for s in settings if s.get("draft")}  # a server does not say its draft
    mine = {name for name in named if Path(name).resolve() == Path(draft).resolve()}
    if mine == named:
        return results, []
    if len(named) == 1:  # it may have been moved since
        return results, [f"the card's acceptance lengths were measured with the draft {named.pop()}"]
    if not mine:
        raise UserError(f"The results compare drafts, and {draft} is not among them. Give others with --acc-length.")
    return {**(results or {}), "settings": [s for s in settings if str(s.get("draft")) in mine]}, []
