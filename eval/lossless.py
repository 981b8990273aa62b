"""Shows that drafting changes no answer: `vlm-eagle lossless`, as a script."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("lossless"))
