"""Servers that are started: waited for, shown when they fail, and always ended."""

import os
import signal
import sys
import threading
from contextlib import nullcontext

import pytest
from waiting import Clock, wait_for

from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines import process
from vlm_eagle.interop.engines.process import free_port, running, vllm_command

pytestmark = pytest.mark.multi_process

HEALTHY = """
import http.server, os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pids", worker.pid, os.getpid(), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def start(code, log, **options):
    port = free_port()
    return running([sys.executable, "-c", code, str(port)], f"http://127.0.0.1:{port}", log, **options)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # an orphan nobody has reaped yet is dead
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("how", [None, KeyboardInterrupt, SystemExit])
def test_the_server_and_its_workers_end_with_the_context(tmp_path, how):
    log = tmp_path / "logs" / "server.log"
    with pytest.raises(how) if how else nullcontext(), start(HEALTHY, log) as url:
        assert url.startswith("http://127.0.0.1:")
        worker = int(log.read_text().split()[1])
        assert is_alive(worker)
        if how:
            raise how
    wait_for("the worker's end", lambda: not is_alive(worker))


def test_a_second_interruption_does_not_leave_the_server_behind(tmp_path):
    """It arrives while a server that takes its time is waited for: when it says that it was asked to end."""
    log = tmp_path / "log"

    def interrupt():
        wait_for("the first interruption", lambda: "not yet" in log.read_text())
        os.kill(os.getpid(), signal.SIGALRM)

    deaf = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('not yet', flush=True))" + HEALTHY
    previous = signal.signal(signal.SIGALRM, lambda *_: sys.exit(143))
    try:
        with pytest.raises(SystemExit), start(deaf, log):
            threading.Thread(target=interrupt, daemon=True).start()
        worker, server = map(int, log.read_text().split()[1:3])
        assert not is_alive(server)
        wait_for("the worker's end", lambda: not is_alive(worker))
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_server_that_ends_says_why(tmp_path):
    code = "import sys; print('loading'); sys.exit('no such model')"
    with pytest.raises(UserError, match=r"exit code 1(?s:.)*no such model"), start(code, tmp_path / "log"):
        pass


class ClockOfServer(Clock):
    """Goes on when the server has said something."""

    def __init__(self, log):
        super().__init__()
        self.log, self.pauses = log, 0

    def sleep(self, seconds):
        wait_for("the server's first words", lambda: self.log.stat().st_size)
        super().sleep(seconds)
        self.pauses += 1


def test_a_server_that_never_answers(tmp_path, monkeypatch):
    log = tmp_path / "log"
    clock = ClockOfServer(log)
    monkeypatch.setattr(process, "time", clock)
    code = "import time; print('still loading', flush=True); time.sleep(600)"
    with (
        pytest.raises(UserError, match=r"within 9 s(?s:.)*start-timeout(?s:.)*still loading"),
        start(code, log, start_timeout=9),
    ):
        pass
    assert clock.pauses == 10


def test_no_such_interpreter(tmp_path):
    with pytest.raises(UserError, match="Cannot start"), running(["/no/python"], "http://127.0.0.1:9", tmp_path / "log"):
        pass


def test_vllm_is_told_what_to_draft(tmp_path):
    command = vllm_command("python", "my target", "my draft", 3, port=1234)
    said = dict(zip(command[3::2], command[4::2], strict=False))
    assert (said["--model"], said["--dtype"], said["--port"]) == ("my target", "float32", "1234")
    assert said["--generation-config"] == "vllm", "the model's own sampling defaults must not apply"
    assert "--enforce-eager" in command
    assert '"num_speculative_tokens": 3' in command[-1]
    assert vllm_command("python", "my target", port=1234) == command[:-2]


def test_the_environment_of_ours_stays_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    code = "import os, sys; sys.exit(f\"{os.environ.get('PYTHONPATH')} {os.environ['VLLM_NO_USAGE_STATS']}\")"
    with pytest.raises(UserError, match="None 1"), start(code, tmp_path / "log"):
        pass
