"""Small conversations for the tests of this folder."""

import random

from vlm_eagle.data.conversation import Conversation, ImagePart, Message, TextPart, VideoPart, user_message
from vlm_eagle.demo.scenes import draw, random_scene

PICTURE = draw(random_scene(random.Random(3))).resize((96, 64))


def chat(question: str | Message, answer: str, **fields) -> Conversation:
    user = user_message(question) if isinstance(question, str) else question
    return Conversation("c", (user, Message("assistant", (TextPart(answer),))), **fields)


def about(*media, answer: str = "A kettle.") -> Conversation:
    parts = tuple(part if isinstance(part, VideoPart) else ImagePart(part) for part in media)
    return chat(Message("user", (*parts, TextPart("What is it?"))), answer)


def supervised_text(tokenizer, ids, mask) -> str:
    """What the model is asked to predict, read off one row."""
    return tokenizer.decode(ids[mask.nonzero().flatten() + 1])
