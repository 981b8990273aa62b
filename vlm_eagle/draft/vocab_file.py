"""A draft vocabulary as a file, chosen once and used by many runs.

    {"format": "vlm_eagle.draft_vocabulary/1", "vocab_size": 151936, "ids": [0, 1, 5, ...], ...}

`vocab_size` is the target's, as its config.json states it; `ids` are target tokens. Whatever else stands there (how it was
chosen) is for readers.
"""

import json
from pathlib import Path
from typing import Any

from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import write_json

FORMAT = "vlm_eagle.draft_vocabulary/1"


def write_vocabulary(file: Path, vocab: DraftVocab, **about: Any) -> None:
    """Writes `vocab` with whatever `about` says of its making."""
    write_json(file, {"format": FORMAT, "vocab_size": len(vocab.t2d), **about, "ids": vocab.target_ids.tolist()})


def read_vocabulary(file: Path, vocab_size: int) -> DraftVocab:
    """The vocabulary in a file, for a target of `vocab_size` tokens.

    Raises:
        UserError: no such file, something else in it, or a vocabulary for another target.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is no draft vocabulary: {error}. Make one with vlm-eagle vocabulary.") from error
    ids = row.get("ids") if isinstance(row, dict) and row.get("format") == FORMAT else None
    if not isinstance(ids, list) or not all(type(i) is int and abs(i) < 2**31 for i in ids):
        raise UserError(f'{file} is no draft vocabulary: expected "format": "{FORMAT}" and a list of numbers under "ids".')
    if row.get("vocab_size") != vocab_size:
        raise UserError(f"{file} is for a target of {row.get('vocab_size')} tokens; this one has {vocab_size}. Choose anew.")
    try:
        return DraftVocab.from_ids(ids, vocab_size)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
