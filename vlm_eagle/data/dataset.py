"""Data files as a map-style dataset: rows are found by byte offset and parsed when asked for, so memory stays flat.

(An Arrow table would need one type per field; `content` is a string in one row and a list in the next.)
"""

import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch.utils.data import Dataset

from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.conversation_rows import parse_line
from vlm_eagle.data.data_files import as_json_lines
from vlm_eagle.errors import UserError


class ConversationDataset(Dataset):
    """All non-blank rows of some files. A bad row is an item too: the `BadRow` that describes it."""

    def __init__(self, files: Iterable[str | Path]):
        self.rows: list[tuple[Path, int, int]] = []  # file, row number from 1, byte offset in its lines
        self._lines: dict[Path, Path] = {}  # of every file, its rows as JSON lines
        for file in map(Path, files):
            self._lines[file] = as_json_lines(file)
            self.rows += [(file, number, offset) for number, offset in _index(self._lines[file])]
        if not self.rows:
            raise UserError("The data files have no rows.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Conversation | BadRow:
        return self.parse(index, self.line(index))

    def line(self, index: int) -> bytes:
        """The bytes of a row."""
        file, _, offset = self.rows[index]
        with self._lines[file].open("rb") as stream:
            stream.seek(offset)
            return stream.readline()

    def parse(self, index: int, line: bytes) -> Conversation | BadRow:
        """A row from its bytes."""
        file, number, _ = self.rows[index]
        return parse_line(line, f"{file}:{number}", file.parent)

    def drop_media(self) -> Counter:
        """Keeps only rows without images or videos; returns what was dropped, by reason. Bad rows stay, to be counted."""
        keep = [row for i, row in enumerate(self.rows) if not getattr(self[i], "has_media", False)]
        dropped = Counter({"has media": len(self.rows) - len(keep)})
        self.rows = keep
        if not keep:
            raise UserError("All rows have images or videos: llm_only needs text conversations in the data.")
        return +dropped


def ignore_interrupts(worker: int) -> None:
    """For a DataLoader's worker processes: Ctrl-C reaches them too, but only the main process decides what to do about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _index(lines: Path) -> Iterator[tuple[int, int]]:
    """(number from 1, byte offset) of every line that is not blank."""
    offset = 0
    with lines.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, offset
            offset += len(line)
