"""Compares an engine with our own loop: one draft, the same prompts.

In float32 an engine that computes what we compute needs exactly our number of verification forwards, prompt by prompt, and
writes the same tokens. An acceptance length alone shows far less: engines count tokens after an end token.

Images are judged for chains of one drafted token only, within 1 %. vLLM's runner for CPUs gives the draft another position
scheme after an image than its runner for GPUs (and we) do, and from the second drafted token on derives a wrong cache slot
from it (vLLM issue 54498). Longer chains are shown, not judged.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from vlm_eagle.decoding.generate import Generation, Settings, generate
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.interop.conventions import IMAGE_INPUTS
from vlm_eagle.interop.engines.engine import Engine, EngineAnswer, EngineShape
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target

IMAGE_TOLERANCE = 0.01  # of our forwards


@dataclass
class PromptParity:
    """One prompt, here and there.

    Attributes:
        id: the conversation's.
        same_prompt: whether both read the same token ids; None when the engine does not return them.
        parts_at: tokens until the answers differ; None when they are identical.
        drafts: verified there.
        forwards: verification forwards here.
    """

    id: str
    same_prompt: bool | None
    parts_at: int | None
    drafts: int
    forwards: int


@dataclass
class Parity:
    """All prompts of one kind.

    Attributes:
        kind: text or images.
        shape: what the engine drafts.
        prompts: one by one.
        theirs: sums of the engine.
        ours: sums of our loop.
    """

    kind: str
    shape: EngineShape
    prompts: list[PromptParity] = field(default_factory=list)
    theirs: AcceptanceStats = field(default_factory=AcceptanceStats)
    ours: AcceptanceStats = field(default_factory=AcceptanceStats)

    def add(self, prompt: PromptParity, theirs: AcceptanceStats, ours: AcceptanceStats) -> None:
        """One more prompt."""
        self.prompts.append(prompt)
        self.theirs += theirs
        self.ours += ours

    @property
    def identical(self) -> int:
        """Prompts with the same answer."""
        return sum(prompt.parts_at is None for prompt in self.prompts)

    @property
    def drafts(self) -> int:
        """Drafts verified there."""
        return sum(prompt.drafts for prompt in self.prompts)

    @property
    def forwards(self) -> int:
        """Verification forwards here."""
        return sum(prompt.forwards for prompt in self.prompts)

    @property
    def differing(self) -> list[PromptParity]:
        """Prompts with another answer, or, where counts must be equal one by one, with another count."""
        exact = self.kind == "text"
        return [p for p in self.prompts if p.parts_at is not None or (exact and p.drafts != p.forwards)]

    @property
    def is_judged(self) -> bool:
        """Whether a difference would mean anything (see the top of this file)."""
        return self.kind == "text" or self.shape.num_draft_tokens == 2

    @property
    def agrees(self) -> bool:
        """Text: all answers and each prompt's count equal. Images: all answers equal, the sum of counts within 1 %."""
        return not self.differing and abs(self.drafts - self.forwards) <= IMAGE_TOLERANCE * self.forwards

    @property
    def verdict(self) -> str:
        """In one word or two."""
        return ("agrees" if self.agrees else "DIFFERS") if self.is_judged else "not judged"

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        sides = {"theirs": self.theirs, "ours": self.ours}
        return {
            "kind": self.kind, "prompts": len(self.prompts), "identical": self.identical, "drafts": self.drafts,
            "forwards": self.forwards, "verdict": self.verdict,
            **{side: {"tokens": s.tokens, "acceptance_length": s.acceptance_length, "by_position": s.by_position}
               for side, s in sides.items()},
            "by_prompt": [vars(prompt) for prompt in self.prompts],
        }  # fmt: skip


def answer_here(target: Target, draft: Eagle3Draft, batch: Batch, engine: Engine, max_new_tokens: int) -> Generation:
    """Our greedy answer to one prompt, drafted as the engine drafts; its acceptance by position is counted as there."""
    shape = TreeShape(engine.shape.num_draft_tokens, engine.shape.topk, engine.shape.num_steps)
    settings = Settings(shape=shape, max_new_tokens=max_new_tokens, image_inputs=IMAGE_INPUTS[engine.kind])
    (answer,) = generate(target, batch, draft, settings)
    if engine.kind == "vllm":  # counts before the answer is cut at an end token or at its limit
        answer.stats.accepted_at = answer.stats.uncut_accepted_at
    return answer


def compare(
    id_: str, prompt_ids: Sequence[int], ours: Generation, theirs: EngineAnswer, text: str, eos_ids: Set[int]
) -> PromptParity:
    """One prompt. `prompt_ids` and `text` are ours: what the target read, and our answer as text without its end token."""
    same_prompt = None if theirs.prompt_tokens is None else list(theirs.prompt_tokens) == list(prompt_ids)
    if theirs.tokens is None:
        parts_at = None if theirs.text.strip() == text.strip() else 0
    else:
        parts_at = _parting(_without_end(ours.tokens, eos_ids), _without_end(theirs.tokens, eos_ids))
    return PromptParity(id_, same_prompt, parts_at, theirs.drafts, ours.stats.forwards)


def _without_end(tokens: Sequence[int], eos_ids: Set[int]) -> list[int]:
    """Engines differ in whether they return the end token."""
    return list(tokens[:-1] if tokens and tokens[-1] in eos_ids else tokens)


def _parting(ours: list[int], theirs: list[int]) -> int | None:
    if ours == theirs:
        return None
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
