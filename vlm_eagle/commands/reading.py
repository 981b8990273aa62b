"""What the commands that read data as training does have in common: their options, and the data behind them."""

from dataclasses import dataclass, field

from rich.console import Console

from data_recipes import demo
from vlm_eagle.config import DEMO
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.data.media import set_pixel_budget
from vlm_eagle.target.load import load_processor


@dataclass(kw_only=True)
class Reading:
    """Data, and how a target reads it.

    Attributes:
        target: folder or hub id of the target, whose processor is used, or demo; no weights are loaded.
        data: JSONL files of conversations, or demo.
        max_length: longest sample in tokens, as in training.
        min_pixels: as data.min_pixels in training.
        max_pixels: as data.max_pixels in training.
        llm_only: as in training.
    """

    target: str = DEMO
    data: list[str] = field(default_factory=lambda: [DEMO])
    max_length: int = 2048
    min_pixels: int | None = None
    max_pixels: int | None = None
    llm_only: bool = False


def open_data(config: Reading, console: Console) -> tuple[ConversationDataset, VisionCollator]:
    """The rows, and what encodes them. The demo's data is made if it is not there yet.

    Raises:
        UserError: no such target or data.
    """
    files = config.data
    if DEMO in files:
        folder = demo.make(console=console)
        files = [str(folder / "train.jsonl") if name == DEMO else name for name in files]
    processor = load_processor(config.target)
    set_pixel_budget(processor, config.min_pixels, config.max_pixels)
    collator = VisionCollator(processor, max_length=config.max_length, llm_only=config.llm_only)
    return ConversationDataset(files), collator
