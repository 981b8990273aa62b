"""Shows samples as training sees them: which tokens are learned, which are only read.

    vlm-eagle preview
    vlm-eagle preview --target Qwen/Qwen3-VL-2B-Instruct --data train.jsonl --rows 0 1 2

Learned tokens are green, and in «» where there is no colour; runs of image tokens are folded. If an answer is not green to
its end, or a question is, the data or the chat template is not what it seems.
"""

from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text
from transformers import AutoProcessor, AutoTokenizer

from data_recipes import demo
from vlm_eagle.config import DEMO
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import DEMO_TARGET, VISION_TYPES, read_config

FOLDED = ("<|image_pad|>", "<|video_pad|>")


@dataclass(kw_only=True)
class Config:
    """What to look at.

    Attributes:
        target: folder or hub id of the target, whose processor is used, or demo; no weights are loaded.
        data: JSONL files of conversations, or demo.
        rows: which data rows, counted from 0 over all files.
        max_length: longest sample in tokens, as in training.
        llm_only: as in training.
    """

    target: str = DEMO
    data: list[str] = field(default_factory=lambda: [DEMO])
    rows: list[int] = field(default_factory=lambda: [0, 1, 2])
    max_length: int = 2048
    llm_only: bool = False


def main(config: Config) -> None:
    """Prints the samples."""
    console = Console()
    files = config.data
    if DEMO in files:
        folder = demo.make(console=console)
        files = [str(folder / "train.jsonl") if name == DEMO else name for name in files]
    vision = read_config(config.target).model_type in VISION_TYPES
    name = str(DEMO_TARGET) if config.target == DEMO else config.target
    processor = (AutoProcessor if vision else AutoTokenizer).from_pretrained(name, trust_remote_code=False)
    collator = VisionCollator(processor, max_length=config.max_length, llm_only=config.llm_only)
    dataset = ConversationDataset(files)
    for row in config.rows:
        if not 0 <= row < len(dataset):
            raise UserError(f"There is no data row {row}: the data has rows 0 to {len(dataset) - 1}.")
        console.print(sample_text(dataset[row], collator, marked=console.color_system is None))


def sample_text(sample: Conversation | BadRow, collator: VisionCollator, marked: bool = False) -> Text:
    """One sample, learned tokens in green and, if `marked`, in «»; or why it would be skipped."""
    try:
        if isinstance(sample, BadRow):
            raise sample
        encoded = collator.encode(sample)
    except BadRow as error:
        return Text(f"skipped: {error}\n", style="red")
    ids = encoded["input_ids"][0].tolist()
    learned = [False, *encoded["supervised"][0, :-1].tolist()]  # position p is supervised iff token p + 1 is learned
    text = Text(f"{sample.source} ({sample.id}): {len(ids)} tokens, {sum(learned)} learned\n", style="bold")
    for word, count, is_learned in _folded(collator.tokenizer.convert_ids_to_tokens(ids), learned, collator):
        word = f"{word} x {count}" if count > 1 else word
        text.append(f"«{word}»" if marked and is_learned else word, style="bold green" if is_learned else "dim")
    return text.append("\n")


def _folded(tokens: list[str], learned: list[bool], collator: VisionCollator) -> list[tuple[str, int, bool]]:
    """(text, how often, learned): neighbours that are alike come together, so that bytes of one character meet again."""
    pieces: list[tuple[str, int, bool]] = []
    run: list[str] = []

    def close(is_learned: bool) -> None:
        if run:
            pieces.append((collator.tokenizer.convert_tokens_to_string(run), 1, is_learned))
            run.clear()

    for i, (token, is_learned) in enumerate(zip(tokens, learned, strict=True)):
        if i and is_learned != learned[i - 1]:
            close(learned[i - 1])
        if token not in FOLDED:
            run.append(token)
        elif i and tokens[i - 1] == token:
            word, count, flag = pieces[-1]
            pieces[-1] = (word, count + 1, flag)
        else:
            close(is_learned)
            pieces.append((token, 1, is_learned))
    close(bool(learned and learned[-1]))
    return pieces
