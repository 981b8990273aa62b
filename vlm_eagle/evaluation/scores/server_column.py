"""A running engine as a column of the table: `vlm-eagle score --server URL`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import AutoProcessor, AutoTokenizer

from vlm_eagle.config import resolve_target
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.evaluation.scores.scoring import Skip, TurnAnswer, TurnRequest
from vlm_eagle.interop.engines.connect import connect
from vlm_eagle.interop.engines.engine import Asked, Engine
from vlm_eagle.interop.engines.http import Refused
from vlm_eagle.interop.names import EngineName
from vlm_eagle.target.load import VISION_TYPES, read_config


def reach(url: str, engine: EngineName, *, target: str, thinking: bool, timeout: float) -> tuple[Engine, Any, bool]:
    """(the engine's client, the target's processor or tokenizer, whether it sees).

    Raises:
        UserError: no server, or one that does not draft.
    """
    is_vision = read_config(target).model_type in VISION_TYPES
    name = resolve_target(target)
    processor = (AutoProcessor if is_vision else AutoTokenizer).from_pretrained(name, trust_remote_code=False)
    render = VisionCollator(processor, for_generation=True, thinking=thinking).render
    return connect(url, engine, render=render, timeout=timeout), processor, is_vision


class ServerColumn:
    """See `scoring.Column`. What is drafted was decided when the server was started; one question at a time, because vLLM's
    counters are the server's."""

    batch_size = 1

    def __init__(self, engine: Engine, sampling: Sampling, *, url: str, target: str, thinking: bool):
        self.engine, self.sampling, self.thinking = engine, sampling, thinking
        shape = asdict(engine.shape)
        self.head = {
            "engine": {"kind": engine.kind, "version": engine.version, "model": engine.model, "url": url},
            "draft": None, "target": target, **shape, "num_speculative_tokens": shape["num_draft_tokens"] - 1,
            "sampling": asdict(sampling), "concurrency": 1, "thinking": thinking,
        }  # fmt: skip
        self.identity = self.head

    def answer(self, questions: Sequence[TurnRequest]) -> list[TurnAnswer | Skip]:
        """One after the other."""
        return [self._ask(question) for question in questions]

    def _ask(self, question: TurnRequest) -> TurnAnswer | Skip:
        options = {"max_new_tokens": question.max_new_tokens, "seed": question.seed, "thinking": self.thinking}
        try:
            answer = self.engine.answer(question.conversation, Asked(sampling=self.sampling, **options))
        except (BadRow, Refused) as error:
            return Skip(getattr(error, "reason", "refused by the server"), str(error))
        row = {
            "output_token_ids": answer.tokens, "num_forwards": answer.stats.forwards, "num_committed": answer.stats.tokens,
            "accepted_at": answer.stats.accepted_at, "text": answer.text,
        }  # fmt: skip
        return TurnAnswer(answer.text, row)
