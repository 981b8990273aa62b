"""A local imitation of an OpenAI-compatible server: its answers depend on all that was said, and it fails on demand."""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from waiting import LIMIT


def said(messages: list[dict[str, Any]], seed: int | None = None) -> str:
    """The fake target's answer: another one for every history, every picture and every seed."""
    digest = hashlib.sha256(json.dumps([messages, seed], sort_keys=True).encode()).hexdigest()
    return f"answer {digest[:12]}"


def usual(body: dict[str, Any]) -> dict[str, Any]:
    """A finished answer."""
    text = said(body["messages"], body.get("seed"))
    return choice({"role": "assistant", "content": text})


def choice(message: dict[str, Any], finish: str = "stop", count: int = 5) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": count}}


@dataclass
class FakeChat:
    """State of a fake server.

    Attributes:
        answer: a request's body to the answer's, or a status it always fails with.
        owner, models: what /v1/models says.
        faults: what goes wrong with the next requests, in order; "" for nothing. A number is a status, one with a second
            number asks for a pause of so many seconds ("429 2"); reset closes the connection hard, gone without a word,
            garbage is no JSON, bare has no usable fields, abort ends otherwise, slow is silent until the client hangs up.
        fault: what goes wrong with every request after that.
        requests: bodies of all requests.
        busiest: most requests under way at a time.
    """

    answer: Callable[[dict[str, Any]], dict[str, Any] | int] = usual
    owner: str = "vllm"
    models: list[str] = field(default_factory=lambda: ["fake-target"])
    faults: list[str] = field(default_factory=list)
    fault: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    busiest: int = 0
    url: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, body: dict[str, Any], key: str | None) -> str:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self._under_way += 1
            self.busiest = max(self.busiest, self._under_way)
            return self.faults.pop(0) if self.faults else self.fault

    def leave(self) -> None:
        with self._lock:
            self._under_way -= 1


class HeldBack:
    """Answers as usual, but from some row of `own_chats.mixed_rows` on not before `release`. `waiting`: who gets none yet."""

    def __init__(self, row: int):
        self.row, self.waiting, self.released = row, [], threading.Event()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        row = int(re.search(r"question (\d+)\.", json.dumps(body["messages"]))[1])
        if row >= self.row:
            self.waiting.append(row)
            assert self.released.wait(LIMIT), "never released"
        return usual(body)

    def release(self) -> None:
        self.released.set()


@contextmanager
def serving(*fakes: FakeChat) -> Iterator[list[str]]:
    """Runs the fakes on free ports; yields their addresses."""
    servers = []
    for fake in fakes:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
        server.daemon_threads = True
        fake.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
    try:
        yield [fake.url for fake in fakes]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def free_address() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def _handler(fake: FakeChat) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            models = [{"id": name, "owned_by": fake.owner} for name in fake.models]
            self._send({"data": models} if self.path == "/v1/models" else None)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = fake.enter(body, self.headers.get("Authorization"))
            try:
                self._answer(body, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                fake.leave()

        def _answer(self, body, fault):
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if fault == "slow":
                self.connection.settimeout(LIMIT)
                self.connection.recv(1)
            if fault in ("reset", "gone", "slow"):
                self.close_connection = True
            elif fault[:1].isdigit():
                status, *wait = map(int, fault.split())
                self._send({"error": {"message": f"made to fail with {status}"}}, status, *wait)
            elif fault == "garbage":
                self._send('{"choices": [{"mess')
            elif fault == "bare":
                self._send({"choices": []})
            elif fault == "abort":
                self._send(choice({"content": "half of an"}, "abort"))
            else:
                answer = fake.answer(body) if self.path == "/v1/chat/completions" else 404
                self._send({}, answer) if isinstance(answer, int) else self._send(answer)

        def _send(self, what, status=200, wait=None):
            if what is None:
                what, status = {"detail": "Not Found"}, 404
            data = (what if isinstance(what, str) else json.dumps(what)).encode()
            self.send_response(status)
            if wait is not None:
                self.send_header("Retry-After", str(wait))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
