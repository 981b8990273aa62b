"""What a client of servers needs of the target's files. No weights are read."""

from dataclasses import dataclass

from transformers import AutoProcessor, AutoTokenizer, GenerationConfig

from vlm_eagle.config import resolve_target
from vlm_eagle.interop.engines.messages import Prepare, resizer
from vlm_eagle.target.load import VISION_TYPES, read_config


@dataclass(frozen=True)
class TargetFiles:
    """Of a target; the defaults are for one that is unknown.

    Attributes:
        prepare: brings pictures to their final size, so that a server has nothing left to resample.
        end_ids: tokens that end an answer.
        special_ids: tokens that must not occur inside of one.
    """

    prepare: Prepare | None = None
    end_ids: frozenset[int] = frozenset()
    special_ids: frozenset[int] = frozenset()

    @classmethod
    def read(cls, name: str) -> "TargetFiles":
        """Of a folder, a hub id, or `demo`; UserError if there is no such target."""
        is_vision = read_config(name).model_type in VISION_TYPES
        name = resolve_target(name)
        processor = (AutoProcessor if is_vision else AutoTokenizer).from_pretrained(name, trust_remote_code=False)
        tokenizer = getattr(processor, "tokenizer", processor)
        prepare = resizer(processor.image_processor) if is_vision else None
        return cls(prepare, _end_ids(name, tokenizer.eos_token_id), frozenset(tokenizer.all_special_ids))


def _end_ids(name: str, of_tokenizer: int) -> frozenset[int]:
    """As `Target.eos_ids` finds them."""
    try:
        ids = GenerationConfig.from_pretrained(name).eos_token_id
    except OSError:  # the file is optional
        ids = None
    ids = of_tokenizer if ids is None else ids
    return frozenset(ids if isinstance(ids, list | tuple) else [ids])
