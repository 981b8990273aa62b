"""The data of a recipe or a mix: `vlm-eagle data`, as `python -m data_recipes`."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("data", "python -m data_recipes"))
