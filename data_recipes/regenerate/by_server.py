"""Answers from servers: many conversations at a time, each turn by turn.

Threads rather than coroutines: pictures are opened, resized and encoded on the way, which would hold up an event loop.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from data_recipes.regenerate.chat_server import ChatServer
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Dialogue
from data_recipes.regenerate.pool import ServerPool
from data_recipes.regenerate.target_files import TargetFiles
from vlm_eagle.data.conversation import BadRow, Conversation, Message
from vlm_eagle.interop.engines.http import Refused, Unanswered
from vlm_eagle.interop.engines.messages import chat_messages

_AHEAD = 2  # conversations handed out per worker, so that none waits for the next row to be read


class ByServer:
    """An `AnswerSource` (run.py).

    Raises:
        UserError: no server answers, or they cannot be used.
    """

    def __init__(self, config: RegenerateConfig, say: Callable[[str], None]):
        self.config = config
        files = TargetFiles.read(config.target) if config.target else TargetFiles()
        self.prepare = files.prepare
        self.pool = ServerPool(
            [ChatServer(url, config, files) for url in config.server],
            tries=config.tries, backoff=config.backoff, server_timeout=config.server_timeout, say=say,
        )  # fmt: skip
        served = self.pool.open()
        self.made_by = {"target": config.target or served, "served_as": served}

    def answers(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """Every dialogue when it is over, in whatever order that happens. Daemon threads do not hold up Ctrl-C."""
        todo: queue.SimpleQueue[Dialogue | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Dialogue | BaseException] = queue.SimpleQueue()
        for _ in range(self.config.concurrency):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        source, waiting = iter(dialogues), 0
        try:
            while True:
                while waiting < _AHEAD * self.config.concurrency and (dialogue := next(source, None)) is not None:
                    todo.put(dialogue)
                    waiting += 1
                if not waiting:
                    return
                finished = done.get()
                if isinstance(finished, BaseException):
                    raise finished
                waiting -= 1
                yield finished
        finally:
            self.pool.close()
            for _ in range(self.config.concurrency):
                todo.put(None)

    def summary(self) -> dict[str, Any]:
        """Nothing besides the answers."""
        return {}

    def _work(self, todo: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        try:
            while (dialogue := todo.get()) is not None:
                self._answer(dialogue)
                done.put(dialogue)
        except BaseException as error:  # raised again where the user is
            done.put(error)

    def _answer(self, dialogue: Dialogue) -> None:
        messages: list[dict[str, Any]] = []  # rendered once: a picture is not encoded again for every turn
        while not dialogue.is_over:
            try:
                prompt = dialogue.prompt()
                messages += [self._rendered(message, prompt) for message in prompt.messages[len(messages) :]]
                dialogue.take(self.pool.ask(partial(ChatServer.ask, messages=messages, seed=dialogue.turn_seed)))
            except BadRow as error:
                dialogue.end(error.reason, str(error))
            except Refused as error:
                dialogue.end("refused by the server", str(error))
            except Unanswered as error:
                dialogue.end("no answer from a server", str(error), again=True)

    def _rendered(self, message: Message, conversation: Conversation) -> dict[str, Any]:
        alone = replace(conversation, messages=(message,))
        return chat_messages(alone, self.prepare, by_path=self.config.images == "path")[0]
