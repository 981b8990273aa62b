"""Shows samples as training sees them: which tokens are learned, which are only read.

    vlm-eagle preview
    vlm-eagle preview --target Qwen/Qwen3-VL-2B-Instruct --data train.jsonl --rows 0 1 2

Learned tokens are green, and in «» on a terminal without colours; runs of image tokens are folded. An answer that is not green
to its end, or a question that is, means that something is wrong with the data or the chat template.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vlm_eagle.commands.options import DataOptions
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.errors import UserError

if TYPE_CHECKING:
    from vlm_eagle.data.collator import VisionCollator


@dataclass(kw_only=True)
class Config(DataOptions):
    """What to look at.

    Attributes:
        rows: which data rows, counted from 0 over all files; none for the first three.
    """

    rows: list[int] | None = None


def main(config: Config) -> None:
    """Prints the samples."""
    console = Console()
    dataset, collator = config.open(console)
    for row in range(min(len(dataset), 3)) if config.rows is None else config.rows:
        if not 0 <= row < len(dataset):
            raise UserError(f"No data row {row}: the data has rows 0 to {len(dataset) - 1}.")
        console.print(sample_text(dataset[row], collator, marked=console.color_system is None))


def sample_text(sample: Conversation | BadRow, collator: "VisionCollator", marked: bool = False) -> Text:
    """One sample, learned tokens in green and, if `marked`, in «»; or why it would be skipped."""
    from vlm_eagle.data.spans import learned_tokens, pieces

    try:
        if isinstance(sample, BadRow):
            raise sample
        encoded = collator.encode(sample)
    except BadRow as error:
        return Text(f"skipped: {error}\n", style="red")
    ids, learned = encoded["input_ids"][0].tolist(), learned_tokens(encoded["loss_mask"][0])
    text = Text(f"{sample.source} ({sample.id}): {len(ids)} tokens, {sum(learned)} learned\n", style="bold")
    for piece in pieces(ids, learned, collator.tokenizer):
        word = f"«{piece}»" if marked and piece.learned else str(piece)
        text.append(word, style="bold green" if piece.learned else "dim")
    return text.append("\n")
