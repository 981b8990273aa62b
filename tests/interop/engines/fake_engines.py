"""Servers that speak as vLLM and SGLang do, without any model, and fail on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

ODD = {
    "choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": "many"},
    "text": "x", "meta_info": {"completion_tokens": None},
}  # fmt: skip


@dataclass
class Canned:
    """What the fake says to a prompt: the answer, and what it took. `by_position[i]`: accepted at position i."""

    tokens: list[int]
    text: str = "an answer"
    prompt_tokens: list[int] = field(default_factory=lambda: [1, 2, 3])
    drafts: int = 4
    by_position: list[int] = field(default_factory=lambda: [3, 2, 0])


@dataclass
class FakeEngine:
    """State of a fake server.

    Attributes:
        answer: a request's body to what is answered.
        faults: what goes wrong with the next generation requests, in order: 500, 429, 400, cut (JSON ends too soon), bare (no
            usable fields), odd (fields of other types), gone (the connection closes), crowd (somebody else's request ends at
            the same time).
        hidden: paths that answer 404.
        requests: bodies of all generation requests.
    """

    answer: Callable[[dict[str, Any]], Canned] = lambda body: Canned([5, 6, 7, 8, 9, 10, 11, 12, 13, 2])
    faults: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def get(self, path: str) -> str | dict | None:
        """Text or an object; None for 404."""
        raise NotImplementedError

    def post(self, path: str, body: dict[str, Any]) -> dict | None:
        """The answer to a generation request; None for 404."""
        raise NotImplementedError


@dataclass
class FakeVllm(FakeEngine):
    """Counters as in vLLM's /metrics; `k` 0 runs without a draft."""

    k: int = 3
    log_stats: bool = True
    drafts: int = 100  # others were served before
    by_position: list[int] = field(default_factory=lambda: [70, 50, 30, 20, 10, 5, 1])
    finished: int = 17

    def get(self, path):
        if path == "/v1/models":
            return {"data": [{"id": "fake-target", "owned_by": "vllm"}]}
        if path == "/version":
            return {"version": "0.0.fake"}
        return self.metrics() if path == "/metrics" else {} if path == "/health" else None

    def metrics(self) -> str:
        label = 'engine="0",model_name="fake-target"'
        lines = ["# HELP python_gc_objects_collected_total Objects", 'python_gc_objects_collected_total{generation="0"} 9.0']
        if self.log_stats:
            lines += [f'vllm:request_success_total{{{label},finished_reason="stop"}} {float(self.finished)}']
            lines += [f'vllm:request_success_total{{{label},finished_reason="length"}} 3.0']
        if self.log_stats and self.k:
            lines += ["# TYPE vllm:spec_decode_num_drafts_total counter"]
            lines += [f"vllm:spec_decode_num_drafts_total{{{label}}} {float(self.drafts)}"]
            lines += [f"vllm:spec_decode_num_drafts_created{{{label}}} 1.795251960e+09"]
            lines += [f"vllm:spec_decode_num_draft_tokens_total{{{label}}} {float(self.drafts * self.k)}"]
            lines += [f"vllm:spec_decode_num_accepted_tokens_total{{{label}}} {float(sum(self.by_position[: self.k]))}"]
            name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
            lines += [f'{name}{{{label},position="{i}"}} {float(n)}' for i, n in enumerate(self.by_position[: self.k])]
        return "\n".join(lines) + "\n"

    def post(self, path, body):
        if path != "/v1/chat/completions":
            return None
        said = self.answer(body)
        self.drafts += said.drafts
        for i, n in enumerate(said.by_position):
            self.by_position[i] += n
        self.finished += 1
        choice = {"message": {"role": "assistant", "content": said.text}, "token_ids": said.tokens, "finish_reason": "stop"}
        return {
            "choices": [choice],
            "usage": {"completion_tokens": len(said.tokens)},
            "prompt_token_ids": said.prompt_tokens,
        }


@dataclass
class FakeSglang(FakeEngine):
    """meta_info as in SGLang's /generate; `histogram` is its field of accepted tokens per forward, None in old versions."""

    info: dict[str, Any] = field(
        default_factory=lambda: {
            "version": "0.0.fake", "speculative_algorithm": "EAGLE3", "speculative_num_steps": 5, "speculative_eagle_topk": 4,
            "speculative_num_draft_tokens": 16,
        }
    )  # fmt: skip
    histogram: str | None = "spec_accept_histogram"
    counts: bool = True

    def get(self, path):
        if path == "/v1/models":
            return {"data": [{"id": "fake-target", "owned_by": "sglang"}]}
        return self.info if path in ("/server_info", "/get_server_info") else None

    def post(self, path, body):
        if path != "/generate":
            return None
        said = self.answer(body)
        meta = {"completion_tokens": len(said.tokens), "prompt_tokens": 3, "finish_reason": {"type": "stop", "matched": 2}}
        if self.counts:
            meta |= {"spec_verify_ct": said.drafts, "spec_accept_length": len(said.tokens) / said.drafts}
        if self.histogram:
            at = [said.drafts, *said.by_position, 0]
            meta[self.histogram] = [now - after for now, after in pairwise(at)]
        return {"text": said.text, "output_ids": said.tokens, "meta_info": meta}


@contextmanager
def serving(engine: FakeEngine) -> Iterator[FakeEngine]:
    """Runs the fake on a free port; its `url` is set meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(engine))
    engine.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(engine: FakeEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self._send(None if self.path in engine.hidden else engine.get(self.path))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            engine.requests.append(body)
            fault = engine.faults.pop(0) if engine.faults else ""
            if fault == "gone":
                self.close_connection = True
                return
            if fault.isdigit():
                self._send({"error": {"message": f"made to fail with {fault}"}}, int(fault))
                return
            if fault == "crowd":
                engine.finished += 1
            answer = engine.post(self.path, body)
            answer = {"choices": [], "meta_info": None} if fault == "bare" else ODD if fault == "odd" else answer
            self._send(answer, cut=fault == "cut")

        def _send(self, what, status=200, cut=False):
            if what is None:
                what, status = {"detail": "Not Found"}, 404
            text = what if isinstance(what, str) else json.dumps(what)
            data = text.encode()[: len(text) // 2] if cut else text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
