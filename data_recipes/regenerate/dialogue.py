"""One conversation on its way: what to ask next, what the target has said so far, and how it ended.

Turn by turn: the history of each question holds the target's new answers, never the old ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vlm_eagle.data.conversation import Conversation, Message, TextPart

Key = tuple[int, int]  # (row of the data from 0, sample of that row from 0)


@dataclass(frozen=True)
class Reply:
    """What the target said in one turn.

    Attributes:
        text: without its end token; thoughts come first, between <think> and </think>.
        count: tokens it took.
        cut: it did not end within the limit.
        tokens: its token ids without the end token; None when a server does not tell. (Without --target the end token is
            unknown here and stays.)
        special: special tokens were left out of `text`.
    """

    text: str
    count: int
    cut: bool = False
    tokens: list[int] | None = None
    special: bool = False


@dataclass
class DialogueResult:
    """How a conversation ended; one line of the journal.

    Attributes:
        key: of the dialogue.
        id: the conversation's, for people who read the journal.
        replies: the answers that are kept, in order.
        written: tokens the target wrote, also those of answers that are not kept.
        reason: why it ended before its last question; None when it did not.
        detail: the same at length.
        again: the reason is transient; nothing is kept, and the next run asks again.
    """

    key: Key
    id: str
    replies: list[Reply] = field(default_factory=list)
    written: int = 0
    reason: str | None = None
    detail: str | None = None
    again: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether it becomes a row of the new data."""
        return bool(self.replies) and not self.again

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "DialogueResult":
        """Inverse of `to_json`."""
        return cls(**{**row, "key": tuple(row["key"]), "replies": [Reply(**reply) for reply in row["replies"]]})


class Dialogue:
    """A conversation that is being answered.

    Args:
        key: of the dialogue.
        asked: its questions; of the answers in it only the lengths matter, to in-process batching.
        seed: of all that is drawn in it.
        keep_truncated: a truncated answer is kept, and the next question follows.
        is_long: its questions were changed to ask for long answers.
    """

    def __init__(self, key: Key, asked: Conversation, *, seed: int = 0, keep_truncated: bool = False, is_long: bool = False):
        self.asked, self.seed, self.keep_truncated, self.is_long = asked, seed, keep_truncated, is_long
        self.result = DialogueResult(key, asked.id)
        self.is_over = False
        self._questions = [i for i, message in enumerate(asked.messages) if message.role == "user"]

    @property
    def turn(self) -> int:
        """Which question is next, from 0."""
        return len(self.result.replies)

    @property
    def turn_seed(self) -> int:
        """Of what is drawn in the next answer; 31 bits, which every server takes."""
        return (self.seed + self.turn) % 2**31

    @property
    def old_answer(self) -> str:
        """The data's own answer to the next question; empty when there is none."""
        at = self._questions[self.turn] + 1
        return text_of(self.asked.messages[at]) if at < len(self.asked.messages) else ""

    def prompt(self) -> Conversation:
        """All up to the next question, with the new answers in place of the old."""
        return with_answers(self.asked, [reply.text for reply in self.result.replies], self.turn + 1)

    def take(self, reply: Reply) -> None:
        """The answer to the next question. One that cannot be kept ends the conversation before that question."""
        self.result.written += reply.count
        if reply.special:
            self.end("special token in answer", f"in the answer to question {self.turn + 1}")
        elif not reply.text.strip():
            self.end("empty answer", f"to question {self.turn + 1}")
        elif any("\ud800" <= character <= "\udfff" for character in reply.text):
            self.end("bad text", f"a lone surrogate, which is not Unicode text, in the answer to question {self.turn + 1}")
        elif reply.cut and not (self.keep_truncated and has_answer(reply.text)):
            self.end("answer cut", f"the answer to question {self.turn + 1} did not end after {reply.count} tokens")
        else:
            self.result.replies.append(reply)
            self.is_over = self.turn == len(self._questions)

    def end(self, reason: str, detail: str, again: bool = False) -> None:
        """Ends the conversation. Earlier answers stay, unless the whole conversation is to be asked again."""
        result = self.result
        result.reason, result.detail, result.again, self.is_over = reason, detail, again, True
        if again:
            result.replies.clear()


def with_answers(conversation: Conversation, answers: Sequence[str], questions: int) -> Conversation:
    """The first `questions` questions of a conversation, with these answers to the first of them."""
    messages, asked = [], 0
    for message in conversation.messages:
        if message.role == "assistant":
            continue
        if message.role == "user":
            asked += 1
            if asked > questions:
                break
        messages.append(message)
        if message.role == "user" and asked <= len(answers):
            messages.append(Message("assistant", (TextPart(answers[asked - 1]),)))
    return replace(conversation, messages=tuple(messages))


def text_of(message: Message) -> str:
    """All text of a message."""
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def with_thoughts(text: str, thoughts: str | None) -> str:
    """An answer as Qwen's chat templates read it: thoughts between <think> and </think>, then the rest.

    A server without a reasoning parser sends both in one, without the <think> that some templates put into the prompt.
    """
    if thoughts and thoughts.strip():
        return f"<think>\n{thoughts.strip()}\n</think>\n\n{text.lstrip()}"
    if "</think>" in text and "<think>" not in text:
        return f"<think>\n{text.lstrip()}"
    return text


def has_answer(text: str) -> bool:
    """Whether anything follows the thoughts, if there are any."""
    return "<think>" not in text or bool(text.partition("</think>")[2].strip())
