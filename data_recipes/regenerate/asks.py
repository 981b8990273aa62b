"""What to ask: the rows of the data as dialogues, every sample of every row with a seed of its own."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Dialogue, Key
from data_recipes.regenerate.long_answers import ask_for_long_answers
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset


class Asks:
    """All dialogues of a run, by key. What one asks depends on its key and the settings alone: after an interruption the same
    questions come with the same seeds."""

    def __init__(self, config: RegenerateConfig):
        self.config = config
        self.data = ConversationDataset(config.data)
        self.rows = min(len(self.data), config.limit or len(self.data))

    def __len__(self) -> int:
        return self.rows * self.config.samples

    def __iter__(self) -> Iterator[Key]:
        """Keys in the order of the data."""
        return ((row, sample) for row in range(self.rows) for sample in range(self.config.samples))

    def source(self, key: Key) -> str:
        """`file:row` as the user counts."""
        file, number, _ = self.data.rows[key[0]]
        return f"{file}:{number}"

    def __getitem__(self, key: Key) -> Dialogue:
        """The dialogue before its first question. A bad row's is over already."""
        conversation = self.data[key[0]]
        if isinstance(conversation, BadRow):
            return Dialogue.unusable(key, self.source(key), conversation.reason, str(conversation))
        asked = self._asked(conversation, key)
        options = {"keep_cut": self.config.truncated_answers == "keep", "is_long": asked != conversation}
        return Dialogue(key, asked, seed=seed_of(self.config.seed, key), **options)

    def extras(self, key: Key) -> dict[str, Any]:
        """What else the row says besides its id and its messages, such as where it comes from."""
        file, _, offset = self.data.rows[key[0]]
        with file.open("rb") as stream:
            stream.seek(offset)
            row = json.loads(stream.readline())
        return {name: value for name, value in row.items() if name not in ("id", "messages", "regenerated")}

    def _asked(self, conversation: Conversation, key: Key) -> Conversation:
        """The conversation with its questions as they are asked in this sample."""
        if seed_of(self.config.seed, key, "long answer") >= self.config.long_answers * 2**31:
            return conversation
        return ask_for_long_answers(conversation, seed_of(self.config.seed, key, "wording"))


def seed_of(seed: int, key: Key, purpose: object = "answer") -> int:
    """31 bits (what every server takes) that depend on all of the arguments."""
    digest = hashlib.sha256(f"{seed} {key[0]} {key[1]} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
