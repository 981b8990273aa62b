"""Choosing a draft vocabulary: how large for a wanted coverage, which tokens it must hold, and what each size costs.

A token outside the draft vocabulary is never guessed, so coverage bounds acceptance; lm_head is read at every draft step, so
size costs time. Languages that are rare in the data lose first. Everywhere `counts` are language -> (V,) how often each token
is learned, and `forced` the ids that a vocabulary holds in any case.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.vocab import DraftVocab, coverage, ranked
from vlm_eagle.errors import UserError
from vlm_eagle.training.meta_models import meta_draft

MEDIA = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")  # never in an answer


@dataclass(frozen=True)
class VocabularySize:
    """A draft vocabulary of one size.

    Attributes:
        size: tokens.
        overall: share of all learned tokens that it holds.
        by_language: the same, of the learned tokens of each language.
        head_parameters: of lm_head.
        step_bytes: weights that one draft step reads, which its time follows at small batches.
        step_cost: the same relative to a draft with the target's whole vocabulary.
    """

    size: int
    overall: float
    by_language: dict[str, float]
    head_parameters: int
    step_bytes: int
    step_cost: float


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that were added to the tokenizer (ends of turns, <think>, tools, ...), except those of images."""
    return sorted(token for name, token in tokenizer.get_added_vocab().items() if name not in MEDIA)


def tokens_of_text(files: Iterable[Path], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of all tokens in text files, line by line, also as they are after a space; ascending.

    Raises:
        UserError: a file that does not exist or is not UTF-8.
    """
    found: set[int] = set()
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in filter(None, (line.strip() for line in lines)):
                    for text in (line, f" {line}"):
                        found.update(tokenizer.encode(text, add_special_tokens=False))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is not text: {error}. Give a UTF-8 file with one word or sentence per line.") from error
    return sorted(found)


def size_for(counts: Mapping[str, Tensor], forced: Sequence[int], overall: float, every_language: float, multiple: int) -> int:
    """The smallest vocabulary with this coverage, rounded up to a multiple of `multiple` (at most the target's).

    Args:
        counts: by language.
        forced: ids.
        overall: wanted share of all learned tokens, 0 .. 1.
        every_language: wanted share of every language's.
        multiple: engines multiply faster with sizes that divide evenly.
    """
    total = _total(counts)
    order = ranked(total, forced)
    least = max(len(set(forced)), 1)
    for wanted, one in [(overall, total), *((every_language, language) for language in counts.values())]:
        reached = one[order].cumsum(0)
        need = wanted * int(reached[-1])  # in float64, exact for less than 2 ** 53 tokens
        if need > 0:
            least = max(least, int((reached < need).sum()) + 1)
    return min(-(-least // multiple) * multiple, len(total))


def choose_vocabulary(counts: Mapping[str, Tensor], size: int, forced: Sequence[int] = ()) -> DraftVocab:
    """The vocabulary of this size: `forced` tokens and the most frequent others.

    Raises:
        UserError: `forced` are more, or not the target's.
    """
    return DraftVocab.from_counts(_total(counts), size, forced)


def coverages(counts: Mapping[str, Tensor], vocab: DraftVocab) -> dict[str, Any]:
    """Shares of the learned tokens that a vocabulary holds, `overall` and `by_language`."""
    by_language = {name: coverage(one, vocab) for name, one in counts.items()}
    return {"overall": coverage(_total(counts), vocab), "by_language": by_language}


def compare(
    counts: Mapping[str, Tensor], sizes: Iterable[int], forced: Sequence[int], target: PretrainedConfig, dtype: str
) -> list[VocabularySize]:
    """What vocabularies of these sizes, cut to the target's, cover and cost in a draft whose weights are `dtype`."""
    vocab_size = len(next(iter(counts.values())))
    most = step_bytes(target, vocab_size, dtype)[1]
    found = []
    for size in sorted({min(size, vocab_size) for size in sizes}):
        head, step = step_bytes(target, size, dtype)
        covered = coverages(counts, choose_vocabulary(counts, size, forced))
        found.append(VocabularySize(size, **covered, head_parameters=head, step_bytes=step, step_cost=step / most))
    return found


def step_bytes(target: PretrainedConfig, size: int, dtype: str) -> tuple[int, int]:
    """(parameters of lm_head, bytes of weights read by one draft step). A step reads all of the draft but fc, which fuses what
    only the target's own hidden states bring."""
    draft = meta_draft(Eagle3Config.for_target(target.get_text_config(), (0, 1, 2), size))
    read = sum(parameter.numel() for name, parameter in draft.named_parameters() if not name.startswith("fc."))
    return draft.lm_head.weight.numel(), read * getattr(torch, dtype).itemsize


def _total(counts: Mapping[str, Tensor]) -> Tensor:
    """(V,) how often each token is learned, in whatever language."""
    return torch.stack(list(counts.values())).sum(0)


def _total(counts: Mapping[str, Tensor]) -> Tensor:
    """(V,) how often each token is learned, in whatever language."""
    return torch.stack(list(counts.values())).sum(0)


def as_tensors(counts: Mapping[str, object]) -> dict[str, Tensor]:
    """Counts as int64 tensors, without the languages of which nothing is learned (unless there is no other)."""
    tensors = {name: torch.as_tensor(one, dtype=torch.long) for name, one in counts.items()}
    return {name: one for name, one in tensors.items() if one.any()} or tensors
