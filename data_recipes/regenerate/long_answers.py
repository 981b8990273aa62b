"""Questions about images that ask for long answers.

Image data asks for words ("Answer the question using a single word or phrase."), users ask for paragraphs, and a draft learns
little from a word. So a share of the questions drops its wish for a short answer and asks for a long one, in its own language.
"""

import re
from dataclasses import replace

from vlm_eagle.data.conversation import Conversation, ImagePart, Message, TextPart, VideoPart

_WISHES = (
    "Explain your answer in detail, with everything in the image that supports it.",
    "First describe in detail what the image shows, then answer.",
    "Answer thoroughly, in several paragraphs, and refer to what can be seen.",
    "Give a complete and detailed answer, step by step.",
)
_WISHES_ZH = (
    "请结合图片内容详细说明。",
    "请先详细描述图片,再回答问题。",
    "请分几段详细回答,并说明图中的依据。",
    "请一步一步给出完整而详细的回答。",
)
# Wishes for short answers at the end of a question; the first three are those of LLaVA-1.5's mix (arXiv 2310.03744)
_SHORT = re.compile(
    r"\s*(?:"
    r"answer the question using a single word or phrase"
    r"|answer with the option'?s letter from the given choices directly"
    r"|provide a one-sentence caption for the provided image"
    r"|(?:please )?(?:answer|respond|reply) (?:briefly|concisely|shortly|in (?:one|a single) (?:word|sentence|phrase))"
    r"|(?:please )?(?:give|provide) (?:me )?a (?:short|brief|concise) (?:answer|description|caption)(?: of the image)?"
    r"|keep (?:it|your answer) (?:short|brief)"
    r"|请(?:用一个词或短语|用一个词|用一句话|简短地?|简要地?|简洁地?)回答(?:问题)?"
    r"|直接(?:回答|给出)选项(?:字母)?"
    r")\s*[.!。!]?\s*$",
    re.IGNORECASE,
)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def ask_for_long_answers(conversation: Conversation, seed: int) -> Conversation:
    """Asks for a long answer wherever a question comes with an image or a video; `seed` chooses the wording. A conversation
    without any comes back unchanged."""
    messages = tuple(
        _with_wish(message, seed + i) if message.role == "user" and _has_media(message) else message
        for i, message in enumerate(conversation.messages)
    )
    return conversation if messages == conversation.messages else replace(conversation, messages=messages)


def _has_media(message: Message) -> bool:
    return any(isinstance(part, ImagePart | VideoPart) for part in message.content)


def _with_wish(message: Message, seed: int) -> Message:
    text = "".join(part.text for part in message.content if isinstance(part, TextPart))
    is_chinese = bool(_CHINESE.search(text))
    wishes = _WISHES_ZH if is_chinese else _WISHES
    wish, parts = wishes[seed % len(wishes)], list(message.content)
    for i, part in reversed(list(enumerate(parts))):
        if isinstance(part, TextPart):
            question, space = _SHORT.sub("", part.text).rstrip(), "" if is_chinese else " "
            parts[i] = TextPart(f"{question}{space}{wish}" if question else wish)
            return replace(message, content=tuple(parts))
    return replace(message, content=(*parts, TextPart(wish)))
