"""Running engines as sources of answers: which one is it, and does it draft.

    engine = connect("http://localhost:8000")
    print(engine.kind, engine.shape)
    answer = engine.answer(conversation, Asked(max_new_tokens=128))
    print(answer.text, answer.stats.acceptance_length)

Prompts are asked one at a time: vLLM's counters belong to the server, not to a request.
"""

from collections.abc import Callable

from vlm_eagle.data.conversation import Conversation
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.engine import Engine
from vlm_eagle.interop.engines.http import EngineHttp, Refused
from vlm_eagle.interop.engines.sglang import SglangEngine
from vlm_eagle.interop.engines.vllm import VllmEngine
from vlm_eagle.interop.names import EngineName


def connect(
    url: str,
    engine: EngineName = "auto",
    *,
    render: Callable[[Conversation], str] | None = None,
    timeout: float = 300.0,
    tries: int = 4,
    backoff: float = 1.0,
) -> Engine:
    """The client for the engine at `url`, checked: it answers, and it drafts.

    Args:
        url: its address, with or without /v1.
        engine: auto asks the server what it is.
        render: a prompt by the target's chat template; SGLang's native endpoint needs it.
        timeout: seconds one answer may take.
        tries: of each request.
        backoff: seconds before the second try, doubled from then on.

    Raises:
        UserError: no server, an unknown engine, or one that does not draft.
    """
    http = EngineHttp(url, timeout=timeout, tries=tries, backoff=backoff)
    model, owner = _served_model(http)
    kind = owner if engine == "auto" else engine
    if kind == "vllm":
        return VllmEngine(http, model)
    if kind == "sglang":
        return SglangEngine(http, model, render)
    raise UserError(f"The server at {http.url} says it is {owner!r}, neither vllm nor sglang. If it is one, give --engine.")


def _served_model(http: EngineHttp) -> tuple[str, str]:
    """(name, owned_by) of what the server serves."""
    try:
        models = http.retry(lambda: http.json("/v1/models"))["data"]
        return str(models[0]["id"]), str(models[0].get("owned_by", "unknown"))
    except Refused as error:
        raise UserError(f"{error}. Is {http.url} an OpenAI-compatible server of vLLM or SGLang?") from None
    except (KeyError, IndexError, TypeError, AttributeError):
        raise UserError(f"{http.url}/v1/models names no model. Is it a server of vLLM or SGLang?") from None
