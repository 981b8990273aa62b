"""The demo recipe: how much of each task, and where it goes. Sizes were chosen so that two cores need about a minute."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vlm_eagle.config import DEMO, DEMO_TARGET, DataConfig
from vlm_eagle.data.data_files import as_json_lines
from vlm_eagle.demo.data import DemoSizes, ensure_demo_data
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

FOLDER = Path("outputs/demo/data")
SIZES = DemoSizes(
    train={
        "describe": 320, "vqa": 320, "multi-image": 224,
        "arithmetic": 288, "code": 96, "chinese": 192, "chinese-image": 288,
    }
)  # fmt: skip


def make(folder: Path = FOLDER, target_folder: Path = DEMO_TARGET, console: Console | None = None) -> Path:
    """Makes the demo data with the demo target unless it exists; returns its folder."""
    ensure_demo_data(folder, target_folder, SIZES, console or Console())
    return folder


def resolve(data: DataConfig, accelerator: "Accelerator", console: Console) -> None:
    """Replaces the word `demo` by files, which the main process makes unless they exist.

    Raises:
        UserError: no training data is named, or a file that is missing or holds no data; before the demo's are made.
    """
    if data.train is None:
        raise UserError(
            "No training data is given, and only the demo target has its own. Give --data.train mine.jsonl and "
            "--data.eval others.jsonl (docs/data.md says where from), or the word demo to train on the demo's."
        )
    for name in {*data.train, *(data.eval or [])} - {DEMO}:
        as_json_lines(Path(name))
    if DEMO in data.train + (data.eval or []):
        with accelerator.main_process_first():
            folder = make(console=console)
        data.train = [str(folder / "train.jsonl") if name == DEMO else name for name in data.train]
        data.eval = [str(folder / "held_out.jsonl") if name == DEMO else name for name in data.eval or []]
