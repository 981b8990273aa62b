"""Runs the real scripts in processes of their own, forked from one that has imported everything: that saves seconds."""

import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

import torch
from forked import CONTEXT
from safetensors.torch import load_file
from waiting import LIMIT

ROOT = Path(__file__).parents[2]


class Script:
    """One of scripts/ (or a path from there), running with `argv`, in `ranks` processes that know of each other. Output goes to
    the file `output`. `before` is called in each of them first: something of `interference`."""

    def __init__(self, name, argv, output, ranks=1, before=None):
        self.output, port = Path(output), _free_port()
        self.processes = []
        for rank in range(ranks):
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            args = (str(ROOT / "scripts" / name), [*map(str, argv)], str(output), environment if ranks > 1 else {}, before)
            self.processes.append(CONTEXT.Process(target=_main, args=args))
        for process in self.processes:
            process.start()

    @property
    def is_running(self):
        return all(process.is_alive() for process in self.processes)

    def kill(self):
        for process in self.processes:
            process.kill()
        self.wait()

    def interrupt(self):
        """Ctrl-C, as a terminal gives it: to every process, those of data loaders included."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGINT)

    def wait(self):
        """Exit codes of all ranks."""
        for process in self.processes:
            process.join(LIMIT)
        if any(process.is_alive() for process in self.processes):
            self.kill()
            raise TimeoutError(f"The processes did not end in {LIMIT:.0f} s.\n{self.output.read_text()}")
        return [process.exitcode for process in self.processes]

    def finish(self):
        assert self.wait() == [0] * len(self.processes), self.output.read_text()
        return self.output.read_text()


def _main(script, argv, output, environment, before):
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # a data loader's workers need not import anything again either
    os.environ.update({name: str(value) for name, value in environment.items()})
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = [script, *argv]
    sys.path.insert(0, str(Path(script).parent))  # as when Python is given a script
    if before:
        before()
    runpy.run_path(script, run_name="__main__")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def options(data, out, **more):
    """Command line of a small training run; `more` in Python's spelling, dots as two underscores."""
    values = {
        "target": data / "target", "target_dtype": "float32", "data__train": data / "train.jsonl",
        "data__eval": data / "held_out.jsonl", "data__num_workers": 0, "draft__vocab_size": 300, "draft__ttt_length": 3,
        "draft__dtype": "float32", "batch_size": 4, "epochs": 100, "max_steps": 12, "save_steps": 2, "eval_steps": 4,
        "out": out, **more,
    }  # fmt: skip
    return [word for name, value in values.items() for word in (f"--{name.replace('__', '.')}", str(value))]


def draft_of(out):
    return load_file(out / "draft" / "model.safetensors")


def checkpoint_of(out, step):
    return torch.load(out / "checkpoints" / f"step-{step}.pt", weights_only=True)


def log_of(out, without=("tokens_per_second", "target_share")):
    """(lines of steps, lines of evaluations)."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if k not in without} for line in lines]
    return [line for line in lines if "loss" in line], [line for line in lines if "loss" not in line]
