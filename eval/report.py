"""The page of results: `vlm-eagle report`, as a script."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("report"))
