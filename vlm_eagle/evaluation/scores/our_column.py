"""Our loop as a column of the table: one draft, one tree, one sampling."""

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

import vlm_eagle
from vlm_eagle.config import ImageInputs
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.decoding.detokenize import TextStream
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.evaluation.methods import our_loop
from vlm_eagle.evaluation.scores.models import MeasuredPair
from vlm_eagle.evaluation.scores.scoring import Skip, TurnAnswer, TurnRequest
from vlm_eagle.provenance import sha256


class OurColumn:
    """See `scoring.Column`. Without a draft it is the target alone.

    Args:
        pair: the target and the draft, and what they are called.
        shape: the tree.
        sampling: how tokens are chosen.
        batch_size: prompts decoded in one batch; answers do not depend on it.
        image_inputs: what the draft reads at image tokens.
        llm_only: prompts with images are skipped.
        thinking: the chat template's enable_thinking.
    """

    def __init__(
        self, pair: MeasuredPair, shape: TreeShape, sampling: Sampling, *, batch_size: int = 1,
        image_inputs: ImageInputs = "token", llm_only: bool = False, thinking: bool = False,
    ):  # fmt: skip
        target = pair.target
        self.target, self.batch_size = target, batch_size
        self.method = our_loop(target, pair.draft, shape, sampling, image_inputs)
        self.options = {"llm_only": llm_only, "thinking": thinking}
        self.collator = VisionCollator(target.processor, for_generation=True, **self.options)
        chosen = {**shape_head(shape), "sampling": asdict(sampling)}
        options = {"image_inputs": image_inputs, "thinking": thinking}
        self.head = {"draft": pair.name, "target": pair.target_name, **chosen, "concurrency": batch_size, **options}
        precision = [str(target.embed_tokens.weight.dtype), target.device.type]
        code = [code_digest(), torch.__version__, transformers.__version__]
        self.identity = {
            "models": pair.digests, **chosen, **options, "llm_only": llm_only, "precision": precision, "code": code,
        }  # fmt: skip

    def answer(self, questions: Sequence[TurnRequest]) -> list[TurnAnswer | Skip]:
        """All at once, those that can be read."""
        limit = questions[0].max_new_tokens
        self.collator.max_length = self.target.config.max_position_embeddings - limit
        encoded = [self._encode(question) for question in questions]
        answers: dict[int, TurnAnswer | Skip] = {i: sample for i, sample in enumerate(encoded) if isinstance(sample, Skip)}
        samples = {i: sample for i, sample in enumerate(encoded) if not isinstance(sample, Skip)}
        if samples:
            batch = self.collator.stack([(str(i), sample) for i, sample in samples.items()], {}).to(self.target.device)
            timed = self.method(batch, [questions[i].seed for i in samples], limit)
            for i, tokens, committed, accepted in zip(samples, timed.tokens, timed.committed, timed.accepted, strict=True):
                text = str(self.target.tokenizer.decode(tokens, skip_special_tokens=True))
                answers[i] = TurnAnswer(text, answer_row(tokens, committed, accepted))
        return [answers[i] for i in range(len(questions))]

    def _encode(self, question: TurnRequest) -> dict[str, Any] | Skip:
        try:
            return self.collator.encode(question.conversation)
        except BadRow as error:
            return Skip(error.reason, str(error))


def answer_row(tokens: list[int], committed: list[int], accepted: list[int]) -> dict[str, Any]:
    """What decoding decides of a `TurnResult`."""
    return {
        "output_token_ids": tokens, "committed": committed, "accepted": accepted, "num_forwards": len(committed),
        "num_committed": sum(committed),
    }  # fmt: skip


def pieces_of(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """The text that each token completes: a character of several tokens comes with its last one, a special token (the end) is
    its name. Joined they are the answer and its end."""
    stream, special, pieces = TextStream(tokenizer), set(tokenizer.all_special_ids), []
    for token in tokens:
        if token in special:
            pieces.append(stream.end() + tokenizer.convert_ids_to_tokens(token))
        else:
            pieces.append(stream.push([token]))
    if pieces:
        pieces[-1] += stream.end()
    return pieces


def shape_head(shape: TreeShape) -> dict[str, Any]:
    """A tree in SGLang's words and vLLM's; the nodes of a fixed one."""
    n = shape.num_draft_tokens
    head = {"num_draft_tokens": n, "num_speculative_tokens": n - 1, "topk": shape.topk, "num_steps": shape.num_steps}
    if shape.paths is None or shape.is_chain:
        return head
    return {**head, "paths": [".".join(map(str, path)) for path in shape.paths]}


@functools.cache
def code_digest() -> str:
    """Of the code that answers depend on, so that what one version left is not finished by another."""
    package = Path(vlm_eagle.__file__).parent
    return sha256(file for part in ("data", "decoding", "draft", "target") for file in sorted((package / part).glob("*.py")))
