"""vLLM's OpenAI-compatible server: chat requests, and its speculative counters from /metrics."""

import re
from dataclasses import dataclass, field
from typing import Any

from vlm_eagle.data.conversation import Conversation
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.engine import Asked, EngineAnswer, EngineShape
from vlm_eagle.interop.engines.http import EngineHttp, Refused, Unanswered
from vlm_eagle.interop.engines.messages import chat_messages

_DRAFTS, _ACCEPTED = "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_accepted_tokens"
_BY_POSITION, _FINISHED = "vllm:spec_decode_num_accepted_tokens_per_pos", "vllm:request_success"
_SAMPLE = re.compile(r'^(vllm:\w+?)(?:_total)?\{([^}]*)\}\s+([0-9.eE+]+)\s*$', re.MULTILINE)  # fmt: skip
_POSITION = re.compile(r'position="(\d+)"')


@dataclass
class Counters:
    """The server's sums since it started, over all its engines.

    Attributes:
        drafts: drafts verified.
        accepted: draft tokens accepted.
        by_position: of these, how many at each position.
        finished: requests that ended, if the server counts them.
    """

    drafts: int
    accepted: int
    by_position: list[int] = field(default_factory=list)
    finished: int | None = None

    @classmethod
    def parse(cls, metrics: str) -> "Counters":
        """From the text of /metrics.

        Raises:
            UserError: it holds no speculative counters.
        """
        sums: dict[str, int] = {}
        positions: dict[int, int] = {}
        for name, labels, value in _SAMPLE.findall(metrics):
            sums[name] = sums.get(name, 0) + int(float(value))
            if name == _BY_POSITION and (found := _POSITION.search(labels)):
                at = int(found.group(1))
                positions[at] = positions.get(at, 0) + int(float(value))
        if not sums:
            raise UserError("The server's /metrics has no vllm counters. Start vLLM without --disable-log-stats.")
        if _DRAFTS not in sums or _ACCEPTED not in sums or not positions:
            raise UserError(
                "The server counts no drafts: it runs without a draft, or its vLLM is too old to count them. Start it with "
                """--speculative-config '{"method": "eagle3", "model": DRAFT, "num_speculative_tokens": 3}'."""
            )
        by_position = [positions.get(i, 0) for i in range(max(positions) + 1)]
        return cls(sums[_DRAFTS], sums[_ACCEPTED], by_position, sums.get(_FINISHED))

    def since(self, before: "Counters") -> "Counters":
        """What was counted after `before`, in which one request ended.

        Raises:
            UserError: the server was restarted, or another client uses it.
        """
        finished = None if self.finished is None or before.finished is None else self.finished - before.finished
        if self.drafts < before.drafts or (finished is not None and finished < 1):
            raise UserError("The server's counters went back or stood still: it was restarted. Start the measurement again.")
        if finished is not None and finished > 1:
            raise UserError(
                f"{finished} requests ended while one was asked: somebody else uses this server, and its counters cannot be "
                "told apart. Measure on a server of your own."
            )
        by_position = [now - was for now, was in zip(self.by_position, before.by_position, strict=True)]
        return Counters(self.drafts - before.drafts, self.accepted - before.accepted, by_position, finished)


class VllmEngine:
    """Client of a vLLM server; see `engine.Engine`."""

    kind = "vllm"

    def __init__(self, http: EngineHttp, model: str):
        self.http, self.model = http, model
        self.shape = EngineShape.chain(len(http.retry(self._counters).by_position))
        try:
            self.version = str(http.json("/version").get("version"))
        except (Refused, Unanswered):
            self.version = None

    def answer(self, conversation: Conversation, asked: Asked) -> EngineAnswer:
        """One answer; vLLM's counters are read before and after it."""
        body = {
            "model": self.model,
            "messages": chat_messages(conversation.prompt(), asked.prepare),
            "max_tokens": asked.max_new_tokens,
            "seed": asked.seed,
            "return_token_ids": True,
            "chat_template_kwargs": {"enable_thinking": asked.thinking},  # as our collator renders
            **asked.parameters(),
        }
        return self.http.retry(lambda: self._ask(body))

    def _ask(self, body: dict[str, Any]) -> EngineAnswer:
        """One attempt. It reads the counters itself, because a failed attempt may have moved them."""
        before = self._counters()
        answer = self.http.json("/v1/chat/completions", body)
        count = self._counters().since(before)
        try:
            choice = answer["choices"][0]
            written = int(answer["usage"]["completion_tokens"])
            text, tokens = choice["message"]["content"] or "", choice.get("token_ids")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Unanswered(f"{self.http.url} sent an answer without {error}. Look at the server's log.") from None
        committed = max(written - 1, 0)  # the first token comes from the prefill
        # every forward adds one token of the target's own: those without a draft (close to the context's end) show here
        forwards = max(count.drafts, committed - count.accepted)
        return EngineAnswer(
            text, tokens, answer.get("prompt_token_ids"), count.drafts, AcceptanceStats(forwards, committed, count.by_position)
        )

    def _counters(self) -> Counters:
        try:
            return Counters.parse(self.http.text("/metrics"))
        except Refused as error:
            raise UserError(f"{error}. vLLM's counters are needed: start it without --disable-log-stats.") from None
