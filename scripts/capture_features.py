"""Keeps a target's hidden states: `vlm-eagle capture`, as a script for `accelerate launch`."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("capture"))
