"""Several servers as one: which is asked next, which is left out for a while, and when to give up."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from data_recipes.regenerate.chat_server import ChatServer
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.http import LONGEST_PAUSE, Refused, Unanswered

Result = TypeVar("Result")
_FAILURES = 3  # in a row, until a server is left out


class NoServer(UserError):
    """No server has answered for `server_timeout`."""


@dataclass
class _State:
    """What the pool knows about a server."""

    server: ChatServer
    in_flight: int = 0
    failures: int = 0  # in a row
    outs: int = 0  # how often it was left out since its last answer
    out_until: float = 0.0  # monotonic time; 0 while it takes part
    asked_until: float = 0.0  # monotonic time until which it asked to be left alone (Retry-After)
    is_missed: bool = False  # the user was told that it is left out
    is_probed: bool = False  # a thread is finding out whether it is back


class ServerPool:
    """Gives each request to the server with the least to do, and again to another one when that fails.

    A server that fails `_FAILURES` times in a row is left out for a growing pause, one that asks for a pause (`Retry-After`)
    immediately for that long. Then it is asked who it is, and takes part again once it answers. Waiting for a server costs a
    request none of its tries.

    Args:
        servers: at least one.
        tries: of each request.
        backoff: seconds before the second try, doubled before each further one, times a random number from 0.5 to 1.5.
        server_timeout: seconds without an answer from any server after which `ask` raises `NoServer`.
        say: shows a line to the user.
    """

    def __init__(
        self, servers: Sequence[ChatServer], *, tries: int, backoff: float, server_timeout: float, say: Callable[[str], None]
    ):
        self.states = [_State(server) for server in servers]
        self.tries, self.backoff, self.server_timeout, self.say = tries, backoff, server_timeout, say
        self.changed = threading.Condition()
        self.gone_since: float | None = None  # when all were left out for the first time after the last answer
        self.is_closed = False
        self.model: str | None = None

    def open(self) -> str:
        """Asks every server who it is; returns the name of what they all serve. Some may be down.

        Raises:
            UserError: all are, or they serve different models.
        """
        errors = []
        for state in self.states:
            try:
                self._introduce(state.server)
            except (Unanswered, Refused) as error:
                errors.append(str(error))
                self._leave_out(state, error)
                state.is_missed = True
                self.say(f"{state.server.url} does not take part yet: {error}")
        if self.model is None:
            raise UserError(" ".join(errors))
        return self.model

    def close(self) -> None:
        """From now on whoever asks, or waits to ask, gets an error."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()

    def ask(self, request: Callable[[ChatServer], Result]) -> Result:
        """The result of `request`, called with one server after another until it succeeds.

        Raises:
            Unanswered: every try failed.
            Refused: a working server will not serve this request.
            NoServer: all servers are gone, or the pool was closed.
        """
        for number in range(1, self.tries + 1):
            state = self._choose()
            try:
                result = request(state.server)
            except Unanswered as error:
                self._failed(state, error)
                if number == self.tries:
                    raise
                time.sleep(self.backoff * 2 ** (number - 1) * random.uniform(0.5, 1.5))
            except Refused:
                self._answered(state)
                raise
            except BaseException:
                with self.changed:
                    state.in_flight -= 1
                raise
            else:
                self._answered(state)
                return result
        raise AssertionError("unreachable")

    def _choose(self) -> _State:
        """The least busy server, as soon as one takes part; those whose pause is over are probed first."""
        while True:
            with self.changed:
                if self.is_closed:
                    raise NoServer("The run is over.")
                now = time.monotonic()
                free = [state for state in self.states if not state.out_until]
                if not free and self.gone_since is not None and now - self.gone_since > self.server_timeout:
                    raise NoServer(
                        f"No server has answered for {self.server_timeout:.0f} s. Start one again; the same command "
                        "then continues."
                    )
                due = [state for state in self.states if 0 < state.out_until <= now and not state.is_probed]
                if due:
                    due[0].is_probed = True
                elif free:
                    state = min(free, key=lambda state: (state.in_flight, state.outs))
                    state.in_flight += 1
                    return state
                else:
                    self.changed.wait(0.2)
                    continue
            self._probe(due[0])

    def _probe(self, state: _State) -> None:
        """Asks a server that was left out whether it is back; no other thread does meanwhile."""
        is_back, error = False, None
        try:
            self._introduce(state.server)
            is_back = True
        except (Unanswered, Refused) as failure:
            error = failure
        finally:
            with self.changed:
                is_news, state.is_probed = is_back and state.is_missed, False
                if is_back:
                    state.failures = min(state.failures, _FAILURES - 1)  # one that failed is out again at its next failure
                    state.out_until, state.is_missed = 0.0, False
                    self.changed.notify_all()
                else:
                    self._leave_out(state, error)
        if is_news:
            self.say(f"{state.server.url} takes part again.")

    def _introduce(self, server: ChatServer) -> None:
        server.introduce()
        if self.model is None:
            self.model = server.model
        if server.model != self.model:
            raise UserError(f"{server.url} serves {server.model}, the others {self.model}. Give servers of one model.")

    def _answered(self, state: _State) -> None:
        with self.changed:
            now = time.monotonic()
            state.in_flight, state.failures, state.outs = state.in_flight - 1, 0, 0
            if state.asked_until <= now:
                state.out_until = 0.0  # an earlier request may end well after others failed
            self.gone_since = now if all(state.out_until for state in self.states) else None

    def _failed(self, state: _State, error: Unanswered) -> None:
        with self.changed:
            state.in_flight, state.failures = state.in_flight - 1, state.failures + 1
            fails = state.failures >= _FAILURES
            leaves = (fails or error.wait > 0) and not state.out_until
            if leaves:
                self._leave_out(state, error)
                state.is_missed = fails  # pauses of a server that answers in between are no news
        if leaves and fails:
            self.say(f"{state.server.url} is left out for a while: {error}")

    def _leave_out(self, state: _State, error: Exception | None = None) -> None:
        now, state.outs = time.monotonic(), state.outs + 1
        asked = getattr(error, "wait", 0.0)
        state.asked_until = now + min(asked, self.server_timeout / 4)
        state.out_until = now + min(max(self.backoff * 2**state.outs, asked), LONGEST_PAUSE, self.server_timeout / 4)
        if self.gone_since is None and all(state.out_until for state in self.states):
            self.gone_since = now
