"""From a configuration to the parts of a run: target, data, draft vocabulary, draft."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from vlm_eagle.config import TrainConfig
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.dataset import ConversationDataset
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab, count_tokens
from vlm_eagle.errors import UserError
from vlm_eagle.provenance import sha256
from vlm_eagle.target.load import load_target
from vlm_eagle.target.target import Target


@dataclass
class Run:
    """Everything a `Trainer` needs besides its configuration.

    `data_hash` identifies the training files; `dropped` counts rows that were left out before training began;
    `coverage` is the share of answer tokens that the draft vocabulary holds.
    """

    target: Target
    draft: Eagle3Draft
    collator: VisionCollator
    train: ConversationDataset
    held_out: ConversationDataset | None
    data_hash: str
    dropped: Counter
    coverage: float


def build_run(config: TrainConfig, accelerator: Accelerator) -> Run:
    """Loads and builds all parts. Data files must exist (the word `demo` was resolved by the caller).

    Raises:
        UserError: for anything the user can fix.
    """
    train = ConversationDataset(config.data.train)
    held_out = ConversationDataset(config.data.held_out) if config.data.held_out else None
    dropped: Counter = Counter()
    target = load_target(
        config.target,
        dtype=config.target_dtype,
        device=accelerator.device,
        llm_only=config.llm_only,
        layer_ids=config.draft.layer_ids,
    )
    if config.llm_only or not target.is_vision:
        dropped += train.drop_media()
        if held_out:
            held_out.drop_media()
    collator = VisionCollator(
        target.processor, max_length=config.data.max_length, llm_only=config.llm_only, strict=config.data.strict
    )
    counts = count_tokens(_answers(train, collator), target.config.vocab_size)
    if not counts.any():
        raise UserError("The training data holds no answer tokens: every row is bad or has no assistant message.")
    sizes = Eagle3Config.for_target(target.config, target.layer_ids, config.draft.vocab_size)
    vocab = DraftVocab.from_counts(counts, sizes.draft_vocab_size)
    torch.manual_seed(config.seed)
    options = {name: getattr(config.draft, name) for name in ("dtype", "fc_norm", "norm_output")}
    draft = Eagle3Draft(replace(sizes, **options), vocab).to(accelerator.device)
    with torch.no_grad():  # the draft speaks the target's language from the first step
        draft.lm_head.weight.copy_(target.model.lm_head.weight[draft.target_ids])
    coverage = float(counts[vocab.t2d].sum() / counts.sum())
    return Run(target, draft, collator, train, held_out, sha256(map(Path, config.data.train)), dropped, coverage)


def _answers(dataset: ConversationDataset, collator: VisionCollator) -> Iterator[list[int]]:
    for i in range(len(dataset)):
        sample: Conversation | BadRow = dataset[i]
        if not isinstance(sample, BadRow):
            yield collator.answer_ids(sample)
