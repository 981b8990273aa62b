"""A conversation of several turns with one decoder."""

from collections.abc import Iterator
from pathlib import Path

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation, user_message
from vlm_eagle.decoding.cycle import Decoder
from vlm_eagle.decoding.detokenize import TextStream
from vlm_eagle.decoding.generate import Generation, Settings, stream_with
from vlm_eagle.errors import UserError


class Chat:
    """One conversation. The caches stay between turns: an image is looked at once."""

    def __init__(self, decoder: Decoder, settings: Settings):
        self.decoder, self.settings = decoder, settings
        self.collator = VisionCollator(
            decoder.target.processor, for_generation=True, strict=True,
            max_length=decoder.target.config.max_position_embeddings,
        )  # fmt: skip
        self.conversation: Conversation | None = None
        self.answer = Generation()  # the last one

    def ask(self, text: str, images: tuple[Path, ...] = ()) -> Iterator[tuple[str, bool]]:
        """Yields the answer as (text, whether the draft guessed it). What was written stays in the conversation, also when
        the caller stops listening.

        Raises:
            UserError: an unusable image, or a conversation too long for the target. It stays as it was.
        """
        if self.conversation is None:
            asked = Conversation("chat", (user_message(text, images),), source="chat")
        else:
            asked = self.conversation.asked(text, images)
        try:
            prompt = self.collator([asked]).to(self.decoder.target.device)
        except BadRow as error:
            raise UserError(str(error)) from error
        tokenizer, answer = self.decoder.target.tokenizer, Generation()
        self.answer, words, shown = answer, TextStream(tokenizer), 0
        try:
            for _ in stream_with(self.decoder, prompt, self.settings, [answer]):
                for token, drafted in zip(answer.tokens[shown:], answer.drafted[shown:], strict=True):
                    yield words.push([token]), drafted
                shown = len(answer.tokens)
            yield words.end(), False
        finally:
            if answer.tokens:
                self.conversation = asked.answered(tokenizer.decode(answer.tokens, skip_special_tokens=True))
            else:  # the prompt may have been half read
                self.decoder.forget()

    def forget(self) -> None:
        """A new conversation."""
        self.conversation = None
