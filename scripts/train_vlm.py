"""Trains a draft: `vlm-eagle train`, as a script for `accelerate launch`."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("train"))
