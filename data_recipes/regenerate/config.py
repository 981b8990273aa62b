"""The options of the command, checked."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vlm_eagle.decoding.options import SamplingOptions, TreeOptions
from vlm_eagle.errors import UserError


@dataclass(kw_only=True)
class RegenerateConfig(SamplingOptions, TreeOptions):
    """What to answer, and by whom.

    Attributes:
        data: JSONL files of conversations whose prompts are kept.
        out: folder of the run: journal.jsonl, train.jsonl, failed.jsonl, regenerate.json.
        server: addresses of OpenAI-compatible servers; none to decode in this process.
        target: folder or hub id of the target, or demo. Needed in this process. With servers: the name to ask for when they
            serve several, and the processor that brings images to their final size before they are sent.
        draft: in this process: folder or hub id of a draft, which makes it faster and changes no answer.
        dtype: in this process: of the target; auto is the checkpoint's on a GPU and float32 on a CPU.
        batch_size: in this process: conversations answered at a time.
        concurrency: with servers: requests under way at a time, all servers together.
        max_new_tokens: longest answer, thoughts included.
        truncated_answers: what becomes of an answer that did not end within max_new_tokens: drop ends the conversation
            before it, since the target never wrote the end that training would show; keep marks it.
        samples: answers per prompt, drawn independently; more than one needs a temperature.
        thinking: for targets that can think before they answer; auto leaves it to the chat template.
        long_answers: share of the conversations with images whose questions about them ask for a long answer.
        seed: of the sampling, and of the choice which questions ask for long answers.
        limit: only the first rows of the data.
        images: with servers: data-url sends pictures along; path sends file:// addresses, which the servers must be allowed
            to read (vLLM: --allowed-local-media-path FOLDER).
        timeout: with servers: seconds one answer may take.
        tries: with servers: how often a request is sent before its conversation counts as failed.
        backoff: with servers: seconds before the second try, doubled before each further one, with chance added.
        server_timeout: with servers: seconds without any server before the run stops.
        retry_failed: also retry what failed for good (a refused prompt, an empty answer).
    """

    data: list[str]
    out: str
    server: list[str] = field(default_factory=list)
    target: str | None = None
    draft: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = 16
    concurrency: int = 32
    max_new_tokens: int = 2048
    truncated_answers: Literal["drop", "keep"] = "drop"
    samples: int = 1
    thinking: Literal["on", "off", "auto"] = "off"
    long_answers: float = 0.0
    seed: int = 0
    limit: int | None = None
    images: Literal["data-url", "path"] = "data-url"
    timeout: float = 600.0
    tries: int = 6
    backoff: float = 1.0
    server_timeout: float = 300.0
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "concurrency", "max_new_tokens", "samples", "timeout", "tries", "server_timeout"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be greater than 0, found {getattr(self, name)}.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be at least 1, found {self.limit}.")
        if not 0 <= self.long_answers <= 1:
            raise UserError(f"long_answers is a share from 0 to 1, found {self.long_answers}.")
        if self.backoff < 0:
            raise UserError(f"backoff cannot be negative, found {self.backoff}.")
        if not self.server and self.target is None:
            raise UserError("No answer source. Give --server URL for a running server, or --target to decode in this process.")
        if self.server and self.draft is not None:
            raise UserError(
                "A server brings its own draft (scripts/serve_vllm.sh TARGET DRAFT). Leave out --draft or --server."
            )
        if self.sampling.temperature == 0 and self.samples > 1:  # `sampling` checks itself
            raise UserError("Several samples of a greedy answer would all be the same. Give a --temperature above 0.")

    @property
    def enable_thinking(self) -> bool | None:
        """The chat template's variable; None leaves it to the template."""
        return {"on": True, "off": False, "auto": None}[self.thinking]

    def answering(self) -> dict[str, Any]:
        """All options that decide what an answer is, whoever writes it."""
        names = ("max_new_tokens", "truncated_answers", "thinking", "long_answers", "seed")
        return {"sampling": asdict(self.sampling), **{name: getattr(self, name) for name in names}}
