"""The benchmarks and their prompts: `vlm-eagle benchmarks`, as a script."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("benchmarks"))
