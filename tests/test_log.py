"""What the library says goes through `logging`: printed once by commands, silent in a program that embeds it."""

import logging
import subprocess
import sys

import pytest

from vlm_eagle.log import LIBRARY, printed

logger = logging.getLogger("vlm_eagle.training.trainer")


def test_commands_print_it_once(capsys, monkeypatch):
    root = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(root)
    try:
        with printed():
            logger.info("step %d", 7)
            logger.warning("[careful]")
    finally:
        logging.getLogger().removeHandler(root)
    assert capsys.readouterr().out == "step 7\n[careful]\n"
    assert (LIBRARY.handlers, LIBRARY.level, LIBRARY.propagate) == ([], logging.NOTSET, True)
    with printed(), monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        logger.warning("the first process says it")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("prepare", "heard"), [("", ""), ("logging.basicConfig(level='INFO', format='%(name)s: %(message)s')", "x")]
)
def test_a_program_hears_what_it_asks_for(prepare, heard):
    script = f"import logging, vlm_eagle\n{prepare}\nlogging.getLogger('vlm_eagle.devices').info('said')"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout + said.stderr == ("vlm_eagle.devices: said\n" if heard else "")
