"""SGLang's native endpoint: /generate, whose meta_info says what each answer took."""

from collections.abc import Callable
from typing import Any

from vlm_eagle.data.conversation import Conversation
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.engine import Asked, EngineAnswer, EngineShape
from vlm_eagle.interop.engines.http import EngineHttp, Refused, Unanswered
from vlm_eagle.interop.engines.messages import data_urls

_INFO = ("/server_info", "/get_server_info")  # the newer name first
_HISTOGRAM = ("spec_correct_drafts_histogram", "spec_accept_histogram")  # [n]: forwards that accepted n draft tokens
_NOT_SPECULATIVE = (
    "The SGLang server does not draft. Start it with --speculative-algorithm EAGLE3 --speculative-draft-model-path DRAFT "
    "(scripts/serve_sglang.sh)."
)


class SglangEngine:
    """Client of an SGLang server; see `engine.Engine`.

    Args:
        http: the server.
        model: the name it serves the target under.
        render: a prompt by the target's chat template, which /generate does not apply.
    """

    kind = "sglang"

    def __init__(self, http: EngineHttp, model: str, render: Callable[[Conversation], str] | None):
        if render is None:
            raise UserError("SGLang's /generate needs prompts in the target's chat template. Give --target.")
        self.http, self.model, self.render = http, model, render
        info = self._info()
        if not info.get("speculative_algorithm"):
            raise UserError(_NOT_SPECULATIVE)
        self.version = str(info["version"]) if info.get("version") else None
        try:
            self.shape = EngineShape(
                int(info["speculative_num_draft_tokens"]),
                int(info["speculative_eagle_topk"] or 1),
                int(info["speculative_num_steps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{http.url}{_INFO[0]} does not say what the server drafts ({error}). Is it an SGLang?") from None

    def _info(self) -> dict[str, Any]:
        """The server's settings and state."""
        for path in _INFO:
            try:
                return self.http.retry(lambda path=path: self.http.json(path))
            except Refused as error:
                refused = error
        raise UserError(f"{refused}. Is this an SGLang server?")

    def answer(self, conversation: Conversation, asked: Asked) -> EngineAnswer:
        """One answer with its meta_info."""
        parameters = {**asked.parameters(), "max_new_tokens": asked.max_new_tokens, "skip_special_tokens": True}
        if asked.seed is not None and asked.sampling.temperature > 0:
            parameters["sampling_seed"] = asked.seed
        body: dict[str, Any] = {"text": self.render(conversation.prompt()), "sampling_params": parameters}
        if images := data_urls(conversation.prompt(), asked.prepare):
            body["image_data"] = images
        return self.http.retry(lambda: self._ask(body))

    def _ask(self, body: dict[str, Any]) -> EngineAnswer:
        answer = self.http.json("/generate", body)
        try:
            meta, text = answer["meta_info"], str(answer["text"])
            committed = max(int(meta["completion_tokens"]) - 1, 0)  # the first token comes from the prefill
            forwards = int(meta.get("spec_verify_ct") or 0)
            histogram = list(map(int, next((meta[name] for name in _HISTOGRAM if meta.get(name)), ())))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unanswered(f"{self.http.url}/generate sent an answer without {error}. Look at the server's log.") from None
        if committed and not forwards:
            raise UserError(f"The answer's meta_info has no spec_verify_ct. {_NOT_SPECULATIVE}")
        accepted_at = [sum(histogram[i:]) for i in range(1, len(histogram))]
        if histogram:
            accepted_at += [0] * (self.shape.num_steps - len(accepted_at))
        return EngineAnswer(text, answer.get("output_ids"), None, forwards, AcceptanceStats(forwards, committed, accepted_at))
