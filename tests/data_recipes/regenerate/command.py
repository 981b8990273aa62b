"""Runs `python -m data_recipes.regenerate` in processes forked from one that has imported it: that saves seconds."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

from waiting import LIMIT

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["data_recipes.regenerate.run", "vlm_eagle.cli", "jsonargparse"])


class Command:
    """The running command; its output goes to the file `output`."""

    def __init__(self, argv: list[object], output: Path):
        self.output = output
        self.process = CONTEXT.Process(target=_main, args=([str(word) for word in argv], str(output)))
        self.process.start()

    @property
    def is_running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self) -> int:
        """The exit code."""
        self.process.join(LIMIT)
        if self.process.is_alive():
            self.kill()
            raise TimeoutError(f"The command did not end in {LIMIT:.0f} s.\n{self.output.read_text()}")
        return self.process.exitcode

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        os.kill(self.process.pid, 2)
        return self.wait()


def _main(argv: list[str], output: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["regenerate", *argv]
    runpy.run_module("data_recipes.regenerate", run_name="__main__")
