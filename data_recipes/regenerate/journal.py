"""The journal of a run: one line per finished conversation, appended as soon as it is there, and never lost after that.

The first line records what decides the answers; another target or other sampling may not continue it. A line that was torn by
kill -9 or a full disk is cut off. One process writes at a time, held apart by a lock that the system lifts when it dies.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from data_recipes.regenerate.dialogue import Key, Outcome
from vlm_eagle.errors import UserError

VERSION = 1
_BEGIN = b'{"journal": '
_SYNC_SECONDS = 2.0  # a power cut loses at most what was written since; a killed process loses nothing


class Journal:
    """Opened to be continued, or begun. Later lines about a conversation replace earlier ones.

    Args:
        file: where it is kept.
        settings: what decides the answers, as JSON.

    Raises:
        UserError: another process writes it, other settings made it, the file is no journal, or it cannot be written.
    """

    def __init__(self, file: Path, settings: dict[str, Any]):
        self.file = file
        self._lines: dict[Key, tuple[int, bool, bool]] = {}  # byte offset, kept, may pass
        self._synced, self.unreadable = time.monotonic(), 0
        self.written = 0  # by this process
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = file.open("a+b", buffering=0)
        except OSError as error:
            raise UserError(f"Cannot write {file}: {error}. Give another --out.") from None
        try:
            self._lock()
            self._end = self._read(settings)
            if self._end == 0:
                self._write({"journal": VERSION, "settings": settings})
                self._sync()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._sync()
        self._stream.close()

    def __len__(self) -> int:
        return len(self._lines)

    def is_done(self, key: Key, retry_failed: bool = False) -> bool:
        """Whether nothing is left to ask: it was answered, or failed for good and is not to be tried again."""
        if key not in self._lines:
            return False
        _, kept, may_pass = self._lines[key]
        return kept or not (may_pass or retry_failed)

    def append(self, outcome: Outcome) -> None:
        """Writes one line, at once.

        Raises:
            UserError: the disk is full or gone.
        """
        self._lines[outcome.key] = (self._write(outcome.row()), outcome.is_kept, outcome.again)
        self.written += 1
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def __getitem__(self, key: Key) -> Outcome | None:
        """What is known about a conversation."""
        if key not in self._lines:
            return None
        self._stream.seek(self._lines[key][0])
        return Outcome.from_row(json.loads(_line(self._stream)))

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{self.file} is being written by another process. Wait for it, or give another --out.") from None

    def _read(self, settings: dict[str, Any]) -> int:
        """Indexes the lines; returns where the next one goes."""
        offset = 0
        with self.file.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    if offset == 0 and not line.startswith(_BEGIN[: len(line)]):
                        self._check(line, settings)  # somebody else's file without a newline is no torn journal
                    break
                if offset == 0:
                    self._check(line, settings)
                else:
                    self._index(line, offset)
                offset += len(line)
        os.truncate(self.file, offset)
        return offset

    def _check(self, line: bytes, settings: dict[str, Any]) -> None:
        try:
            head = json.loads(line)
            version, theirs = head["journal"], head["settings"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.file} is no journal of this command. Give another --out, or move it away.") from None
        if version != VERSION:
            raise UserError(f"{self.file} is of version {version}, this is {VERSION}. Give another --out, or move it away.")
        ours = json.loads(json.dumps(settings))
        different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if different:
            what = "; ".join(f"{name} was {theirs.get(name)}, now {ours.get(name)}" for name in different)
            raise UserError(
                f"{self.file} was made with other settings, and its answers may not be mixed with new ones: {what}. Give the "
                "same settings to continue, or another --out."
            )

    def _index(self, line: bytes, offset: int) -> None:
        try:
            outcome = Outcome.from_row(json.loads(line))
            self._lines[outcome.key] = (offset, outcome.is_kept, outcome.again)
        except (ValueError, KeyError, TypeError):  # damaged on disk: asked again
            self.unreadable += 1

    def _write(self, row: dict[str, Any]) -> int:
        """Appends a line; returns where it starts. What a full disk let through is cut off again."""
        data, start = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n", self._end
        try:
            written = 0
            while written < len(data):
                written += self._stream.write(data[written:])
        except OSError as error:
            os.truncate(self.file, start)
            raise UserError(f"Cannot write {self.file}: {error}. Make room; the same command continues.") from None
        self._end = start + len(data)
        return start

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


def _line(stream: Any) -> bytes:
    """The line at the stream's position; an unbuffered `readline` would ask the system for every byte."""
    data = b""
    while b"\n" not in data:
        piece = stream.read(1 << 16)
        if not piece:
            break
        data += piece
    return data.partition(b"\n")[0]
