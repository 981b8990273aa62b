"""What every engine client takes and gives."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from vlm_eagle.data.conversation import Conversation
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.interop.engines.messages import Prepare


@dataclass(frozen=True)
class EngineShape:
    """What the server drafts, in SGLang's three parameters."""

    num_draft_tokens: int
    topk: int = 1
    num_steps: int = 0

    @classmethod
    def chain(cls, k: int) -> "EngineShape":
        """vLLM's num_speculative_tokens."""
        return cls(k + 1, 1, k)

    def __str__(self) -> str:
        if self.topk == 1:
            return f"chain, num_speculative_tokens {self.num_steps}"
        return f"tree, steps {self.num_steps}, topk {self.topk}, num_draft_tokens {self.num_draft_tokens}"


@dataclass
class EngineAnswer:
    """An answer and what the engine says it took.

    Attributes:
        text: the answer as text, without its end token.
        tokens: its token ids, the end token included if the engine gives it; None when it gives none.
        prompt_tokens: token ids of the prompt as the engine saw it; None when it does not say.
        drafts: drafts verified.
        stats: as ours: tokens committed after the first, over verification forwards. Acceptance by position is the engine's
            own count, which includes tokens after an end token.
    """

    text: str
    tokens: list[int] | None
    prompt_tokens: list[int] | None
    drafts: int
    stats: AcceptanceStats


@dataclass(kw_only=True)
class Asked:
    """How an answer shall be written. The engine's own defaults (generation_config.json) never apply.

    Attributes:
        max_new_tokens: exact limit.
        sampling: greedy by default.
        seed: of the sampling, where the engine takes one.
        stop_ids: tokens that end an answer besides the engine's own.
        prepare: what happens to pictures before they are sent.
        thinking: the chat template's enable_thinking, where the engine renders the prompt.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop_ids: Sequence[int] = ()
    prepare: Prepare | None = None
    thinking: bool = False

    def parameters(self) -> dict[str, Any]:
        """The parameters that both engines call by the same name."""
        rows = asdict(self.sampling)
        rows["top_k"] = rows["top_k"] or -1  # off
        return {**rows, "repetition_penalty": 1.0, "stop_token_ids": sorted(self.stop_ids) or None}


class Engine(Protocol):
    """A server that drafts.

    Attributes:
        kind: vllm or sglang.
        model: the name it serves the target under.
        version: of the engine, if it says.
        shape: what it drafts.
    """

    kind: str
    model: str
    version: str | None
    shape: EngineShape

    def answer(self, conversation: Conversation, asked: Asked) -> EngineAnswer:
        """One answer, nothing else running on the server meanwhile.

        Raises:
            Refused: the server will not serve this prompt.
            BadRow: the prompt cannot be sent.
            UserError: the server is gone, or does not count what is needed.
        """
        ...
