"""Choosing a draft vocabulary: how large for a wanted coverage, which tokens it must hold, and what each size costs.

A token outside the draft vocabulary is never guessed, so coverage bounds acceptance; lm_head is read at every draft step, so
size costs time. Languages that are rare in the data lose first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.vocab import DraftVocab, coverage, ranked
from vlm_eagle.errors import UserError
from vlm_eagle.training.footprint import meta_draft

MEDIA = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")  # never in an answer


@dataclass(frozen=True)
class Size:
    """A draft vocabulary of one size.

    Attributes:
        size: tokens.
        overall: share of all learned tokens that it holds.
        by_language: likewise, of the learned tokens of each language.
        head_parameters: of lm_head.
        step_bytes: weights that one draft step reads, which is what its time follows at small batches.
        step_cost: the same relative to a draft with the target's whole vocabulary.
    """

    size: int
    overall: float
    by_language: dict[str, float]
    head_parameters: int
    step_bytes: int
    step_cost: float


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that were added to the tokenizer (ends of turns, <think>, tools, ...), but those of images."""
    return sorted(token for name, token in tokenizer.get_added_vocab().items() if name not in MEDIA)


def tokens_of_text(files: Iterable[Path], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of all tokens in text files, line by line, also as they are after a space; ascending.

    Raises:
        UserError: a file that is not there or not UTF-8.
    """
    found: set[int] = set()
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in filter(None, (line.strip() for line in lines)):
                    for text in (line, f" {line}"):
                        found.update(tokenizer.encode(text, add_special_tokens=False))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is no text: {error}. Give a UTF-8 file with one word or sentence per line.") from error
    return sorted(found)


def size_for(counts: Mapping[str, Tensor], forced: list[int], overall: float, every_language: float, multiple: int) -> int:
    """The smallest vocabulary that covers so much, its size a multiple of `multiple` where the target has so many tokens.

    Args:
        counts: language -> (V,) how often each token is learned.
        forced: ids that the vocabulary holds in any case.
        overall: wanted share of all learned tokens, 0 .. 1.
        every_language: wanted share of every language's.
        multiple: engines multiply faster with sizes that divide evenly.
    """
    total = sum(counts.values())
    order = ranked(total, forced)
    least = max(len(set(forced)), 1)
    for wanted, one in [(overall, total), *((every_language, language) for language in counts.values())]:
        reached = one[order].cumsum(0)
        need = wanted * int(reached[-1])  # in float64, exact for less than 2 ** 53 tokens
        if need > 0:
            least = max(least, int((reached < need).sum()) + 1)
    return min(-(-least // multiple) * multiple, len(total))


def choose(counts: Mapping[str, Tensor], size: int, forced: list[int]) -> DraftVocab:
    """The vocabulary of that size: `forced` tokens and the most frequent others.

    Raises:
        UserError: `forced` are more, or not the target's.
    """
    return DraftVocab.from_counts(sum(counts.values()), size, forced)


def compare(
    counts: Mapping[str, Tensor], sizes: Iterable[int], forced: list[int], target: PretrainedConfig, dtype: str
) -> list[Size]:
    """What vocabularies of these sizes, cut to the target's, cover and cost.

    Args:
        counts: language -> (V,) how often each token is learned.
        sizes: of the vocabularies.
        forced: ids that each holds in any case.
        target: a target's config.json.
        dtype: of the draft's weights.
    """
    total, found = sum(counts.values()), []
    most = step_bytes(target, len(total), dtype)[1]
    for size in sorted({min(size, len(total)) for size in sizes}):
        vocab = choose(counts, size, forced)
        head, step = step_bytes(target, size, dtype)
        covered = {name: coverage(one, vocab) for name, one in counts.items() if one.any()}
        found.append(Size(size, coverage(total, vocab), covered, head, step, step / most))
    return found


def step_bytes(target: PretrainedConfig, size: int, dtype: str) -> tuple[int, int]:
    """(parameters of lm_head, bytes of weights read by one draft step) of a draft for `target`. A step reads all of the draft
    but fc, which fuses what only the target's own states bring."""
    draft = meta_draft(Eagle3Config.for_target(target.get_text_config(), (0, 1, 2), size))
    read = sum(parameter.numel() for name, parameter in draft.named_parameters() if not name.startswith("fc."))
    return draft.lm_head.weight.numel(), read * getattr(torch, dtype).itemsize


def as_tensors(counts: Mapping[str, object]) -> dict[str, Tensor]:
    """(V,) counts by language as int64 tensors, languages without any left out (unless there is no other)."""
    tensors = {name: torch.as_tensor(one, dtype=torch.long) for name, one in counts.items()}
    return {name: one for name, one in tensors.items() if one.any()} or tensors
