"""The journal of a run: one line per finished conversation, appended as soon as it is finished, and never lost after that.

The first line records what decides the answers; another target or other sampling may not continue it. A line that was torn by
kill -9 or a full disk is cut off. One process writes at a time, held apart by a lock that the system lifts when it dies.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from data_recipes.regenerate.dialogue import DialogueResult, Key
from vlm_eagle.errors import UserError

VERSION = 1
_BEGIN = b'{"journal": '
_SYNC_SECONDS = 2.0  # a power cut loses at most what was written since; a killed process loses nothing


class AnswerJournal:
    """Opened to be continued, or begun. Later lines about a conversation replace earlier ones.

    Args:
        file: where it is kept.
        settings: what decides the answers, as JSON.

    Raises:
        UserError: another process writes it, other settings made it, the file is not a journal, or it cannot be written.
    """

    def __init__(self, file: Path, settings: dict[str, Any]):
        self.file = file
        self._lines: dict[Key, tuple[int, bool, bool]] = {}  # byte offset, kept, may pass
        self._synced = time.monotonic()
        self.unreadable = 0  # damaged lines
        self.written = 0  # by this process
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = file.open("a+b", buffering=0)
        except OSError as error:
            raise UserError(f"Cannot write {file}: {error}. Give another --out.") from None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise UserError(f"{file} is being written by another process. Wait for it, or give another --out.") from None
        try:
            self._end = self._read(settings)
            if self._end == 0:
                self._write({"journal": VERSION, "settings": settings})
                self._sync()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> "AnswerJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self._sync()
        self._stream.close()

    def __len__(self) -> int:
        return len(self._lines)

    def is_done(self, key: Key, retry_failed: bool = False) -> bool:
        """Whether nothing is left to ask: it was answered, or it failed for good and is not to be retried."""
        if key not in self._lines:
            return False
        _, kept, may_pass = self._lines[key]
        return kept or not (may_pass or retry_failed)

    def append(self, result: DialogueResult) -> None:
        """Writes one line, at once.

        Raises:
            UserError: the disk is full or gone.
        """
        self._lines[result.key] = (self._write(result.to_json()), result.is_kept, result.again)
        self.written += 1
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def __getitem__(self, key: Key) -> DialogueResult | None:
        """What is known about a conversation."""
        if key not in self._lines:
            return None
        with self.file.open("rb") as stream:
            stream.seek(self._lines[key][0])
            return DialogueResult.from_json(json.loads(stream.readline()))

    def _read(self, settings: dict[str, Any]) -> int:
        """Indexes the lines; returns where the next one goes."""
        offset = 0
        with self.file.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    if offset == 0 and not line.startswith(_BEGIN[: len(line)]):
                        self._check(line, settings)  # another file that lacks a newline is not a torn journal
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
            raise UserError(f"{self.file} is not a journal of this command. Give another --out, or move it away.") from None
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
            result = DialogueResult.from_json(json.loads(line))
            self._lines[result.key] = (offset, result.is_kept, result.again)
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
            raise UserError(f"Cannot write {self.file}: {error}. Free some space; the same command continues.") from None
        self._end = start + len(data)
        return start

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()
