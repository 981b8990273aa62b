"""One OpenAI-compatible server: who it is, what a request says, what an answer means."""

import os
from typing import Any

from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Reply, with_thoughts
from data_recipes.regenerate.target_files import TargetFiles
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.engine import Asked
from vlm_eagle.interop.engines.http import EngineHttp, Refused, Unanswered

_MISCONFIGURED = {401: "Set OPENAI_API_KEY.", 403: "Set OPENAI_API_KEY.", 404: "Is it an OpenAI-compatible server?", 405: ""}
_SHORT = 30.0  # seconds for `introduce`
_FINAL = ("content_filter", "tool_calls")  # reasons to finish that asking again would not change
_NEEDS_ENGINE = "top_k, min_p and thinking on or off are parameters of vLLM and SGLang. Leave them out for other servers."


class ChatServer:
    """A client of the server at `url` (with or without /v1). `kind` and `model` are known after `introduce`."""

    def __init__(self, url: str, config: RegenerateConfig, files: TargetFiles):
        key = os.environ.get("OPENAI_API_KEY")
        self.http = EngineHttp(url, timeout=config.timeout, connections=config.concurrency, key=key)
        self.quick_http = EngineHttp(url, timeout=min(config.timeout, _SHORT), key=key)
        self.url, self.config, self.files = self.http.url, config, files
        self.kind: str | None = None
        self.model: str | None = None

    def introduce(self) -> None:
        """Asks the server who it is.

        Raises:
            Unanswered: it does not answer now.
            UserError: it answers, but cannot be used.
        """
        models: Any = _checked(self.quick_http.json, "/v1/models").get("data")
        try:
            names = [str(model["id"]) for model in models]
            self.model = self.config.target if self.config.target in names else names[0]
            owner = next(str(model.get("owned_by")) for model in models if str(model["id"]) == self.model)
        except (TypeError, KeyError, IndexError, AttributeError):
            raise UserError(f"{self.url}/v1/models names no model. Is it an OpenAI-compatible server?") from None
        if len(names) > 1 and self.model != self.config.target:
            raise UserError(f"{self.url} serves {', '.join(names)}. Name one of them with --target.")
        self.kind = owner if owner in ("vllm", "sglang") else "openai"
        if self.kind == "openai" and (self.config.top_k or self.config.min_p or self.config.thinking == "on"):
            raise UserError(f"{self.url} says it is {owner!r}. {_NEEDS_ENGINE}")

    def ask(self, messages: list[dict[str, Any]], seed: int) -> Reply:
        """One answer to chat messages, asked once.

        Raises:
            Unanswered: the request failed, but may succeed later.
            Refused: the server will never answer this.
            UserError: the server cannot be used at all.
        """
        return self.reply(_checked(self.http.json, "/v1/chat/completions", self.body(messages, seed)))

    def body(self, messages: list[dict[str, Any]], seed: int) -> dict[str, Any]:
        """The request. The server's own sampling defaults (generation_config.json) never apply."""
        config = self.config
        body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": config.max_new_tokens}
        if config.temperature > 0:
            body["seed"] = seed
        if self.kind == "openai":
            return {**body, "temperature": config.temperature, "top_p": config.top_p}
        body |= Asked(sampling=config.sampling, stop_ids=tuple(self.files.end_ids)).parameters()
        if config.enable_thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": config.enable_thinking}
        if self.kind == "vllm":
            body["return_token_ids"] = True
        return body

    def reply(self, answer: dict[str, Any]) -> Reply:
        """Reads the body of an answer.

        Raises:
            Unanswered: the body is malformed, or the answer was broken off.
            Refused: the server will not finish this answer.
        """
        try:
            choice = answer["choices"][0]
            message, finish, tokens = choice["message"], choice["finish_reason"], choice.get("token_ids")
            text = message.get("content") or ""
            thoughts = message.get("reasoning") or message.get("reasoning_content")  # vLLM; SGLang and older vLLM
            count = int(answer["usage"]["completion_tokens"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._unusable(f"that cannot be read: {error!r}") from None
        if finish in _FINAL:
            raise Refused(f"{self.url} ended its answer with {finish!r}", 200)
        if finish not in ("stop", "length"):
            raise self._unusable(f"that ended with {finish!r}")
        if not isinstance(text, str) or not isinstance(thoughts, str | None):
            raise self._unusable("whose content is not text")
        if tokens is not None and not (isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)):
            raise self._unusable("whose token_ids are not a list of numbers")
        if tokens and tokens[-1] in self.files.end_ids:
            tokens = tokens[:-1]
        has_special = not self.files.special_ids.isdisjoint(tokens or ())
        return Reply(with_thoughts(text, thoughts), count, finish == "length", tokens, has_special)

    def _unusable(self, what: str) -> Unanswered:
        return Unanswered(f"{self.url} sent an answer {what}. Look at the server's log.")


def _checked(call: Any, *arguments: Any) -> dict[str, Any]:
    """The call's result; a status that every request would get stops the run instead of failing one conversation."""
    try:
        return call(*arguments)
    except Refused as error:
        if error.status in _MISCONFIGURED:
            raise UserError(f"{error}. {_MISCONFIGURED[error.status]}") from None
        raise
