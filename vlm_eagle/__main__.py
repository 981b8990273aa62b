"""`python -m vlm_eagle COMMAND`, and `accelerate launch -m vlm_eagle train`: the `vlm-eagle` command."""

import sys

from vlm_eagle.commands import main

if __name__ == "__main__":
    sys.exit(main("python -m vlm_eagle"))
