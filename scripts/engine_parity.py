"""Compares an engine with our loop: `vlm-eagle serve-check`, as a script."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("serve-check"))
