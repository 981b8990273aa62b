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
from vlm_eagle.data.row_formats import FIELDS


class DialogueDataset:
    """All dialogues of a run, by key. A dialogue depends on its key and the options alone: after an interruption the same
    questions come with the same seeds."""

    def __init__(self, config: RegenerateConfig):
        self.config = config
        self.data = ConversationDataset(config.data)
        self.num_rows = min(len(self.data), config.limit or len(self.data))

    def __len__(self) -> int:
        return self.num_rows * self.config.samples

    def __iter__(self) -> Iterator[Key]:
        """Keys in the order of the data."""
        return ((row, sample) for row in range(self.num_rows) for sample in range(self.config.samples))

    def __getitem__(self, key: Key) -> Dialogue:
        """The dialogue before its first question. A bad row's is over already."""
        conversation = self.data[key[0]]
        if isinstance(conversation, BadRow):
            dialogue = Dialogue(key, Conversation(self.source(key), ()))
            dialogue.end(conversation.reason, str(conversation))
            return dialogue
        if any(message.tool_calls or message.role == "tool" for message in conversation.messages):
            dialogue = Dialogue(key, Conversation(conversation.id, ()))
            dialogue.end("tool calls", f"{self.source(key)}: calls of tools and their results cannot be written anew yet")
            return dialogue
        asked = conversation
        if seed_of(self.config.seed, key, "long answer") < self.config.long_answers * 2**31:
            asked = ask_for_long_answers(conversation, seed_of(self.config.seed, key, "wording"))
        keep_truncated = self.config.truncated_answers == "keep"
        seed = seed_of(self.config.seed, key)
        return Dialogue(key, asked, seed=seed, keep_truncated=keep_truncated, is_long=asked != conversation)

    def source(self, key: Key) -> str:
        """`file:row` as the user counts."""
        file, number, _ = self.data.rows[key[0]]
        return f"{file}:{number}"

    def extras(self, key: Key) -> dict[str, Any]:
        """What else the row says besides its id and its messages, such as where it comes from."""
        row = json.loads(self.data.line(key[0]))
        return {name: value for name, value in row.items() if name not in {"id", "regenerated", *FIELDS}}


def seed_of(seed: int, key: Key, purpose: str = "answer") -> int:
    """31 bits (what every server takes) that depend on all of the arguments."""
    digest = hashlib.sha256(f"{seed} {key[0]} {key[1]} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
