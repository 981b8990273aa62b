"""Answers one prompt: `vlm-eagle generate`, as a script."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("generate"))
