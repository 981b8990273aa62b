"""Speed with drafts against without: `vlm-eagle speedup`, as a script, also for `accelerate launch`."""

import sys

from vlm_eagle.commands import run

if __name__ == "__main__":
    sys.exit(run("speedup"))
