"""Starts a vLLM server out of another environment, and ends it whatever happens."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.http import EngineHttp, Refused, Unanswered

_DEFAULTS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}  # GiB; what the user has set holds
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # they describe our environment, not vLLM's
# `python -m vllm.entrypoints.openai.api_server` rather than `vllm serve`: the command of CPU builds looks for a
# distribution named vllm, which they are not.
_MODULE = "vllm.entrypoints.openai.api_server"


def vllm_command(
    python: str,
    target: str,
    draft: str | None = None,
    k: int = 3,
    *,
    port: int,
    dtype: str = "float32",
    max_model_len: int = 2048,
) -> list[str]:
    """The command line of a server that drafts chains of `k` tokens, or lets the target decode alone."""
    command = [
        python, "-m", _MODULE, "--model", target, "--dtype", dtype, "--max-model-len", str(max_model_len),
        "--host", "127.0.0.1", "--port", str(port), "--generation-config", "vllm", "--enforce-eager",
    ]  # fmt: skip
    if draft is not None:
        command += ["--speculative-config", json.dumps({"method": "eagle3", "model": draft, "num_speculative_tokens": k})]
    return command


@contextmanager
def running(command: list[str], url: str, log: Path, start_timeout: float = 900.0) -> Iterator[str]:
    """Runs a server for as long as the context lasts; yields its `url` when it answers.

    Raises:
        UserError: it cannot be started, ends before it answers, or does not answer in `start_timeout` seconds; with the end of
            its output, all of which goes to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**_DEFAULTS, **{k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}}
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        except OSError as error:
            raise UserError(f"Cannot start {command[0]}: {error}. Give the interpreter of an environment with vLLM.") from None
        try:
            _wait(process, url, log, start_timeout)
            yield url
        finally:
            _end(process)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait(process: subprocess.Popen, url: str, log: Path, start_timeout: float) -> None:
    http, deadline = EngineHttp(url, timeout=10.0), time.monotonic() + start_timeout
    try:
        while True:
            with suppress(Unanswered, Refused):
                http.text("/health")
                return
            if (code := process.poll()) is not None:
                raise UserError(f"The server ended with exit code {code} before it answered. {_tail(log)}")
            if time.monotonic() > deadline:
                raise UserError(f"The server did not answer within {start_timeout:.0f} s. Raise --start-timeout. {_tail(log)}")
            time.sleep(1.0)
    finally:
        http.close()


def _end(process: subprocess.Popen, server_timeout: float = 15.0) -> None:
    """Ends the server and its workers, which share a session of their own; at once if we are interrupted again meanwhile."""
    try:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(server_timeout)
    finally:
        with suppress(ProcessLookupError):  # also for workers that outlive their parent
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path, lines: int = 8) -> str:
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return f"The end of its output ({log}):\n  " + "\n  ".join(said)
