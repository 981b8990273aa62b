"""Makes a tiny text-only Qwen3 target in seconds, to try the LLM-only mode: the demo target's language tower."""

import sys
from dataclasses import dataclass

from vlm_eagle.cli import run_cli


@dataclass(kw_only=True)
class TextTargetConfig:
    """Where it goes.

    Attributes:
        out: folder to write.
    """

    out: str = "outputs/demo-text/target"


def main(config: TextTargetConfig) -> None:
    """Writes the target."""
    from pathlib import Path

    from vlm_eagle.demo.text_target import make_text_target
    from vlm_eagle.target.load import DEMO_TARGET

    make_text_target(DEMO_TARGET, Path(config.out))
    print(f"Qwen3 target: {config.out}")


if __name__ == "__main__":
    sys.exit(run_cli(main, TextTargetConfig, __doc__))
