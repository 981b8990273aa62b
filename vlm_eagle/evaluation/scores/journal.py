"""What a long evaluation has finished, so that a killed one goes on where it was.

Beside the results `X.json` each process appends finished prompts to `X.journal.<rank>.jsonl`, one line each, and the files go
when `X.json` is written. A line's key is a digest of everything its outcome depends on (models, tree, sampling, the prompt's
text and images, its seed), so a line is used exactly where it would come out the same, whatever else was changed in between,
and by any number of processes. A line cut off by the kill is no JSON and counts as not written.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from vlm_eagle.errors import UserError


class EvaluationJournal:
    """Finished work under keys. `found` is what earlier, interrupted runs left.

    Raises:
        UserError: the results' folder cannot be written, which is better known before they are measured.
    """

    def __init__(self, results: Path, rank: int = 0):
        try:
            results.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"Results cannot be written to {results}: {error.strerror}. Give another place.") from error
        self.files = results.with_name(f"{results.stem}.journal.{rank}.jsonl"), f"{results.stem}.journal.*.jsonl"
        self.found: dict[str, Any] = {}
        for file in sorted(results.parent.glob(self.files[1])):
            self.found |= _read(file)

    def record(self, key: str, outcome: dict[str, Any]) -> None:
        """Keeps what came out; safe from a kill of this process once the call returns."""
        line = json.dumps({"key": key, "outcome": outcome}).encode()
        with self.files[0].open("ab") as stream:
            stream.write(b"\n" + line + b"\n")  # a kill may have left half a line before it

    def remove(self) -> None:
        """The results are written; call it on one process, after all have recorded."""
        for file in self.files[0].parent.glob(self.files[1]):
            file.unlink(missing_ok=True)


def digest(value: Any) -> str:
    """Of any JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    found = {}
    for line in file.read_bytes().splitlines():
        try:
            row = json.loads(line)
            found[str(row["key"])] = row["outcome"]
        except (ValueError, KeyError, TypeError):  # cut off, or not ours
            continue
    return found
