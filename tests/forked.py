"""Runs our command lines in processes forked from one that has imported what takes long: that saves seconds each time."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from waiting import LIMIT

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # processes that share cores must not spin
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "vlm_eagle.training.trainer", "vlm_eagle.training.setup", "vlm_eagle.training.dry_run", "jsonargparse", "rich.progress",
        "transformers.models.qwen3_vl.modeling_qwen3_vl", "transformers.models.qwen3_vl.processing_qwen3_vl",
        "torch.distributed.fsdp", "torch._dynamo",
    ]
)  # fmt: skip


def run(words: list[object], cwd: Path | None = None, text: str = "") -> subprocess.CompletedProcess:
    """What `python -W error SCRIPT ...`, `python -W error -m MODULE ...` or `vlm-eagle ...` returns and prints, given `text` on
    stdin."""
    words = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("in", "out", "err")]
        files[0].write_text(text)
        process = CONTEXT.Process(target=_main, args=(words, cwd and str(cwd), [str(file) for file in files]))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{' '.join(words)} did not end in {LIMIT:.0f} s.\n{files[2].read_text()}")
        return subprocess.CompletedProcess(words, process.exitcode, *(file.read_text() for file in files[1:]))


def _main(words: list[str], cwd: str | None, files: list[str]) -> None:
    warnings.simplefilter("error")  # a command says what the user needs, and a library's warning is not that
    if cwd:
        os.chdir(cwd)
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = os.fdopen(0)
    multiprocessing.set_start_method("fork", force=True)
    program, *sys.argv = words if words[0] == "python" else ["vlm-eagle", *words]
    if program == "vlm-eagle":
        from vlm_eagle.commands import main

        sys.exit(main())
    if sys.argv[0] == "-m":
        module = sys.argv[1]
        del sys.argv[0]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
