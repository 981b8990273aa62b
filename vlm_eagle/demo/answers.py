"""Answers in the target's own words: on-policy training data, written in batches by the target alone."""

from collections.abc import Sequence

from rich.progress import Progress

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.decoding.answers import Answerer
from vlm_eagle.decoding.generate import Settings
from vlm_eagle.target.target import Target


def write_answers(
    target: Target,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[Conversation | None]:
    """Each conversation with its final answer replaced by the target's greedy one, in the order given.

    None stands for a conversation whose answer did not end within `max_new_tokens`: the template would close it with an
    end token that the target did not write.

    Raises:
        BadRow: a conversation cannot be a prompt.
    """
    answer_prompts = Answerer(
        target, VisionCollator(target.processor, for_generation=True), settings=Settings(max_new_tokens=max_new_tokens)
    )
    prompts = [conversation.prompt() for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda i: conversations[i].id)  # a task's answers have similar lengths
    answered: list[Conversation | None] = [None] * len(prompts)
    bar = progress.add_task("target writes answers", total=len(prompts)) if progress else None
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        answers = answer_prompts([prompts[i] for i in chosen])
        for i, answer in zip(chosen, answers, strict=True):
            if isinstance(answer, BadRow):
                raise answer
            if answer.ended:
                answered[i] = prompts[i].answered(answer.text)
        if progress and bar is not None:
            progress.advance(bar, len(chosen))
    return answered
