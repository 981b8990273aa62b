"""Thoughts in an answer, as Qwen's chat templates write and read them: between <think> and </think>, then the answer."""


def with_thoughts(text: str, thoughts: str | None) -> str:
    """The answer as chat templates read it: thoughts between <think> and </think>, then the rest. Without a reasoning parser
    the server sends both in one, without the <think> that some templates put into the prompt."""
    if thoughts and thoughts.strip():
        return f"<think>\n{thoughts.strip()}\n</think>\n\n{text.lstrip()}"
    if "</think>" in text and "<think>" not in text:
        return f"<think>\n{text.lstrip()}"
    return text


def has_answer(text: str) -> bool:
    """Whether anything follows the thoughts, if there are any."""
    return "<think>" not in text or bool(text.partition("</think>")[2].strip())
