"""Rewritten answers: `vlm-eagle regenerate`, as `python -m data_recipes.regenerate`."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("regenerate", "python -m data_recipes.regenerate"))
