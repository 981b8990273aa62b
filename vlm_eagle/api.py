"""The library as users call it. `import vlm_eagle` offers all of it, and imports torch only when it is needed.

    pair = vlm_eagle.load_pair("Qwen/Qwen3-VL-2B-Instruct", "outputs/qwen3-vl-2b/draft")
    (answer,) = vlm_eagle.generate(pair, "What is 38 + 47?")
    print(answer.text, answer.stats.acceptance_length)

A prompt is a string, a list of OpenAI-style messages, or a `Conversation`:

    [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What is on the stove?"}]}]

Parts are `text`, `image`, `image_url` and `video`; a picture is a path, a PIL picture, an image file's bytes, or a data URL.
Web addresses are rejected: nothing is ever fetched. Every error that a user can fix is a `UserError`.
"""

from collections.abc import Iterator

from vlm_eagle.config import DataConfig, DraftConfig, OptimConfig, TrainConfig
from vlm_eagle.data.conversation import Conversation
from vlm_eagle.data.prompts import Messages, Picture, Prompt, Prompts, read_prompts
from vlm_eagle.decoding.answers import Answer, Answerer, answer_of, prompt_collator
from vlm_eagle.decoding.chat import Chat
from vlm_eagle.decoding.detokenize import TextStream
from vlm_eagle.decoding.generate import Generation, build_decoder, generate_with, stream_with
from vlm_eagle.decoding.options import Sampling, Settings, TreeShape
from vlm_eagle.decoding.pair import Pair, load_pair
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.records import Batch
from vlm_eagle.target.target import Target
from vlm_eagle.training.run import TrainResult, run_training

__all__ = [
    "Answer", "Batch", "Chat", "Conversation", "DataConfig", "DraftConfig", "Eagle3Draft", "Generation", "Messages",
    "OptimConfig", "Pair", "Picture", "Prompt", "Prompts", "Sampling", "Settings", "Target", "TrainConfig", "TrainResult",
    "TreeShape", "UserError", "chat", "generate", "load_pair", "stream", "train",
]  # fmt: skip


def generate(pair: Pair, prompts: Prompts | Batch, settings: Settings | None = None, *, batch_size: int = 8) -> list[Answer]:
    """The target's answers, made faster by the draft. Always a list with one answer per prompt, in order, as vLLM's
    `LLM.generate` returns: a single prompt gives a list of one.

    Args:
        pair: the target and its draft.
        prompts: a prompt, a list of prompts, or a batch of B prompts as `VisionCollator(..., for_generation=True)` makes it.
        settings: None is greedy, with a chain of 4 draft tokens and at most 256 new ones.
        batch_size: prompts answered together; it changes no answer. A `Batch` is answered as it is.

    Raises:
        UserError: a prompt that cannot be used, by its number, before the first of its batch is answered.
    """
    settings = settings or Settings()
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, found {batch_size}.")
    answerer = Answerer(pair.target, prompt_collator(pair.target), pair.draft, settings)
    if isinstance(prompts, Batch):
        generations = generate_with(answerer.decoder, prompts.to(pair.target.device), settings)
        return [answer_of(pair.target, generation) for generation in generations]
    conversations, answers = read_prompts(prompts), list[Answer]()
    seeds = settings.seeds(len(conversations))
    for start in range(0, len(conversations), batch_size):
        part = slice(start, start + batch_size)
        answers += [a for a in answerer(conversations[part], seeds[part]) if isinstance(a, Answer)]  # all: errors were raised
    return answers


def stream(pair: Pair, prompt: Prompt, settings: Settings | None = None, *, out: Generation | None = None) -> Iterator[str]:
    """Yields one answer as text, piece by piece as it is written; joined, the pieces are the text that `generate` gives.

    Args:
        pair: as for `generate`.
        prompt: one prompt.
        settings: as for `generate`.
        out: filled with tokens and statistics while the answer is written.

    Raises:
        UserError: a prompt that cannot be used.
    """
    settings = settings or Settings()
    conversations = read_prompts(prompt)
    if len(conversations) != 1:
        raise UserError(f"stream writes one answer, and {len(conversations)} prompts were given. Use generate for several.")
    batch = prompt_collator(pair.target)(conversations)
    assert batch is not None
    decoder = build_decoder(pair.target, pair.draft, settings)
    answer, words, shown = out if out is not None else Generation(), TextStream(pair.target.tokenizer), 0
    for _ in stream_with(decoder, batch.to(pair.target.device), settings, [answer]):
        if text := words.push(answer.tokens[shown:]):
            yield text
        shown = len(answer.tokens)
    if text := words.end():
        yield text


def chat(pair: Pair, settings: Settings | None = None, *, system: str | None = None) -> Chat:
    """A conversation that remembers: `chat(pair).send("What is this?", images=["photo.jpg"]).text`. Later turns read only what
    is new. `ask` yields a turn's answer in pieces, `forget` starts a new conversation.

    Args:
        pair: as for `generate`.
        settings: as for `generate`.
        system: the system message; None for none.
    """
    settings = settings or Settings()
    return Chat(build_decoder(pair.target, pair.draft, settings), settings, system)


def train(config: TrainConfig, *, quiet: bool = False) -> TrainResult:
    """Trains a draft, as `scripts/train_vlm.py` does, under `accelerate launch` or in a single process. A run that was
    interrupted continues from its last checkpoint.

    Args:
        config: the run; only its target and data need to be named.
        quiet: print nothing. Otherwise the main process shows progress on stdout.

    Raises:
        UserError: a setting, a target or data that cannot be used.
    """
    from data_recipes import demo

    return run_training(config, demo.resolve, quiet=quiet)
